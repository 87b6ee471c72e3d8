"""What becomes of fields, lines and evidence of a loop when it gets another spec, as the registry says it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.builders.loops import NOW, live_version
from tests.registry.registry_harness import market_spec

from everloop_learning.watched_features import MAX_FEATURES
from everloop_registry.domain.decision_log import DecisionContext, DecisionLog
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.run_records import model_parameters
from everloop_registry.domain.spec_diff import LoopDiff, SpecLine, compare_specs
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.registry import LoopApplied, LoopAppliedData

FOREST: dict[str, Any] = {"preset": "adaptive_forest", "trees": 3}


def loop_of(spec: LoopSpec, **changes: Any) -> Loop:
    """A loop that this spec was applied to."""
    log = DecisionLog(spec.loop, DecisionContext(None, None, NOW))
    log.decide(LoopApplied, spec.loop, LoopAppliedData(spec=spec))
    return log.loop.model_copy(update=changes)


def line(name: str, of: dict[str, Any], **parameters: str) -> SpecLine:
    """A line with the parameters that its run has."""
    of_run = {"trigger": "initial", "start_offset": "0", "requested_offset": "0"}
    return SpecLine(name, {**model_parameters(ModelSpec.model_validate(of)), **of_run, **parameters})


def states(found: LoopDiff) -> list[tuple[str | None, str, str]]:
    """The lines with what becomes of them."""
    return [(each.line, each.model, each.state) for each in found.lines]


def test_lines_of_the_spec_are_kept_retrained_begun_or_ended() -> None:
    models: list[dict[str, Any]] = [
        {"preset": "logistic"},
        {"preset": "adaptive_forest", "trees": 2},
        {"preset": "naive_bayes"},
    ]
    known = [line("logistic-0", models[0]), line("adaptive-forest-0", models[1]), line("naive-bayes-0", models[2])]
    spec = market_spec(models=[{"preset": "logistic"}, FOREST, {"preset": "hoeffding_tree"}])

    found = compare_specs(loop_of(market_spec(models=models)), spec, known)

    assert states(found) == [
        ("logistic-0", "logistic", "kept"),
        (None, "adaptive-forest", "retrained"),
        (None, "hoeffding-tree", "new"),
        ("adaptive-forest-0", "adaptive-forest", "ends"),
        ("naive-bayes-0", "naive-bayes", "ends"),
    ]


def test_a_seed_tells_two_lines_of_the_same_model_apart() -> None:
    models: list[dict[str, Any]] = [FOREST, {**FOREST, "seed": 7}]
    known = [line("adaptive-forest-0", FOREST, seed="20"), line("adaptive-forest.2-0", models[1])]
    spec = market_spec(models=models)

    found = compare_specs(loop_of(spec), spec, known)

    assert states(found) == [
        ("adaptive-forest-0", "adaptive-forest", "kept"),
        ("adaptive-forest.2-0", "adaptive-forest", "kept"),
    ]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"champion": live_version("logistic-0@9")}, "champion"),
        ({"candidate": live_version("logistic-0@9")}, "in rollout"),
        ({"winner": "logistic-0"}, "has passed the gate"),
        ({"previous_champions": (live_version("logistic-0@9"),)}, "served before the champion"),
    ],
)
def test_a_line_that_is_needed_goes_on_without_a_model_of_the_spec(changes: dict[str, Any], detail: str) -> None:
    loop = loop_of(market_spec(), **changes)

    found = compare_specs(loop, market_spec(models=[FOREST]), [line("logistic-0", {"preset": "logistic"})])

    assert states(found) == [(None, "adaptive-forest", "new"), ("logistic-0", "logistic", "kept")]
    assert found.lines[1].detail.split(";")[0] == detail


def test_a_fresh_line_that_serves_is_named_beside_those_of_the_spec() -> None:
    loop = loop_of(market_spec(), champion=live_version("logistic-400@900"))

    found = compare_specs(loop, market_spec(metric="log_loss"), [line("logistic-0", {"preset": "logistic"})])

    assert states(found) == [("logistic-0", "logistic", "kept"), ("logistic-400", "logistic", "kept")]


def test_members_of_lists_are_compared_by_name() -> None:
    windows = [{"name": name, "mean": "price", "over": "9 events"} for name in ("a", "b")]
    first = {"name": "first", "expr": "price - demand"}

    found = compare_specs(
        loop_of(market_spec(features=windows)),
        market_spec(features=[first, windows[0], {**windows[1], "over": "5 events"}]),
        [],
    )

    said = [(each.path, each.before, each.after) for each in found.fields]
    assert said == [
        ("features.first", None, {"name": "first", "expr": "price - demand"}),
        ("features.b.over", "9 events", "5 events"),
    ]


def test_what_starts_over_elsewhere_is_told_by_field() -> None:
    before = market_spec(monitor={"drift": "all", "slices": ["price"], "objectives": {"learned": {"within": "5m"}}})
    after = market_spec(
        metric="log_loss",
        gate={"require": ["accuracy >= 0.8"]},
        retrain={"on_schedule": "0 3 * * *"},
        monitor={"drift": ["price"], "objectives": {"learned": {"within": "1m"}}},
        features=[{"fields": "all"}, {"name": "mean", "mean": "price", "over": "20 events"}],
    )

    found = compare_specs(loop_of(before, held_back={"forest-0": "too slow"}), after, [])

    assert [each.field for each in found.effects] == [
        "metric",
        "gate.require",
        "gate.require",
        "retrain.on_schedule",
        "monitor.drift",
        "monitor.slices",
        "monitor.objectives.learned",
    ]
    assert (found.cost.before, found.cost.after, found.cost.limit) == (0.0, 1.6, 20_000)


def test_a_feature_beyond_those_that_are_watched_gives_no_new_reference() -> None:
    windows = [{"name": f"m{i}", "mean": "price", "over": f"{i + 2} events"} for i in range(MAX_FEATURES + 1)]
    before = market_spec(monitor={"drift": "all"}, features=windows[:-1])

    beyond = compare_specs(loop_of(before), market_spec(monitor={"drift": "all"}, features=windows), [])
    within = compare_specs(loop_of(before), market_spec(monitor={"drift": "all"}, features=windows[1:]), [])

    assert [each.field for each in beyond.effects] == []
    assert [each.field for each in within.effects] == ["monitor.drift"]
