"""MLflow's filters and orders are read by their grammar, within limits, and what is not understood says what is."""

from __future__ import annotations

import pytest

from everloop_registry.domain.filters import Condition, Field, Order, Searchable, parse_filter, parse_orders
from everloop_registry.errors import FilterRejected

RUNS = Searchable(
    frozenset(("metric", "parameter", "tag", "attribute", "dataset")),
    texts={"run_id": "id", "run name": "name", "status": "status"},
    numbers={"start_time": "started"},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metrics.loss < 0.5", [("metric", "loss", "<", 0.5)]),
        ("metric.`mean loss` >= -1.5e-3", [("metric", "mean loss", ">=", -0.0015)]),
        ('params.depth = "3"', [("parameter", "depth", "=", "3")]),
        ("params.a.b/c-d != 'x'", [("parameter", "a.b/c-d", "!=", "x")]),
        ("tags.`everloop.version` LIKE 'a-%'", [("tag", "everloop.version", "LIKE", "a-%")]),
        ("tag.note = 'it''s here'", [("tag", "note", "=", "it's here")]),
        (
            "tags.a IS NULL and params.b is not null",
            [("tag", "a", "IS NULL", None), ("parameter", "b", "IS NOT NULL", None)],
        ),
        ("attributes.run_id IN ('a','b')", [("attribute", "id", "IN", ("a", "b"))]),
        ("run_id not in ('a')", [("attribute", "id", "NOT IN", ("a",))]),
        ("attributes.start_time > 1700000000000", [("attribute", "started", ">", 1.7e12)]),
        (
            "`run name` ilike 'A%' AND status='FINISHED'",
            [("attribute", "name", "ILIKE", "A%"), ("attribute", "status", "=", "FINISHED")],
        ),
        ("dataset.digest = 'abc'", [("dataset", "digest", "=", "abc")]),
        ("metrics.a>=1and metrics.b<2", None),
        ("", []),
    ],
)
def test_a_filter_is_a_list_of_conditions(text: str, expected: list[tuple[str, str, str, object]] | None) -> None:
    if expected is None:
        with pytest.raises(FilterRejected):
            parse_filter(text, RUNS)
        return

    found = parse_filter(text, RUNS)

    assert [(c.field.kind, c.field.key, c.operator, c.value) for c in found] == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("metrics.loss LIKE 'a'", "LIKE does not work with metric 'loss'"),
        ("metrics.loss < 'much'", "is a number"),
        ("metrics.loss < nan", "is a number"),
        ("params.depth = 3", "text in quotes"),
        ("params.depth > '3'", "> does not work"),
        ("depth = '3'", "'depth' cannot be searched by; what can: run_id"),
        ("cards.depth = '3'", "none of metrics, params, tags"),
        ("params.a = '1' or params.b = '2'", "'or' where AND is expected"),
        ("params.a = 'never ends", "not understood"),
        ("run_id IN 'a'", "'(' is missing"),
        ("run_id IN ('a'", "a list is like"),
        ("run_id IN (1)", "a list is like"),
        ("run_id IS NULL", "works with tags and params"),
        ("params.a", "no comparison"),
        ("params. = '1'", "a name is expected"),
        (" and ".join(["params.a = '1'"] * 21), "at most 20 conditions"),
        ("run_id IN (" + ", ".join(["'a'"] * 201) + ")", "200 texts at most"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_is(text: str, part: str) -> None:
    with pytest.raises(FilterRejected) as refused:
        parse_filter(text, RUNS)

    assert part in refused.value.detail


def test_what_cannot_be_searched_by_is_refused() -> None:
    models = Searchable(frozenset(("attribute", "tag")), texts={"name": "name"}, numbers={})

    with pytest.raises(FilterRejected, match="metrics cannot be searched by here"):
        parse_filter("metrics.a > 1", models)


def test_orders_have_a_direction_that_is_up_unless_said() -> None:
    found = parse_orders(["metrics.`mean loss` DESC", "start_time", "params.a asc"], RUNS)

    assert found == [
        Order(Field("metric", "mean loss"), descending=True),
        Order(Field("attribute", "started"), descending=False),
        Order(Field("parameter", "a"), descending=False),
    ]
    with pytest.raises(FilterRejected, match="no direction"):
        parse_orders(["metrics.a upwards"], RUNS)


def test_a_text_can_hold_anything_that_sql_would_read() -> None:
    [found] = parse_filter('params.a = "\'; DROP TABLE runs; --"', RUNS)

    assert found == Condition(Field("parameter", "a"), "=", "'; DROP TABLE runs; --")
