"""How `everloop status` shows the Kafka sources of a loop, and what answers in place of its champion."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from everloop.cli.views import loops, status

STATUS: dict[str, Any] = {
    "events": 1,
    "predictions": 1,
    "outcomes": 0,
    "dead_letters": 0,
    "champion": {"version": "baseline@0", "since": "2026-01-01T00:00:00Z"},
    "rollout": {"stage": "idle", "share": 0.0, "candidate": None},
    "accuracy": {},
    "versions": 0,
    "promotions": 0,
    "rollbacks": 0,
    "drifts": 0,
    "runs": 0,
}
COUNTS = {"partitions": 1, "lag": 1_234, "records": 56_789, "events": 1, "labels": 0, "rejected": 3, "lost": 0}


def shown(**changes: Any) -> str:
    """What a person sees."""
    written = StringIO()
    Console(width=120, file=written).print(status("shop", STATUS | changes))
    return written.getvalue()


def test_each_source_has_a_line_and_what_is_wrong_with_one_is_said() -> None:
    orders = {"source": "orders", "topic": "shop.orders", "state": "reading"} | COUNTS
    late = {
        "source": "late",
        "topic": "shop.late",
        "state": "waiting",
        "detail": "source shop/late is not read",
    } | COUNTS

    text = shown(sources=[orders, late])

    assert [line.split()[1:7] for line in text.splitlines() if "orders" in line] == [
        ["orders", "shop.orders", "reading", "1,234", "56,789", "3"]
    ]
    assert "late is not read" in text


def test_what_answers_in_place_of_a_champion_is_said_of_one_loop_and_in_the_table_of_all() -> None:
    instead = {"vm": {"version": "0", "reason": "sha256 is 1, expected 2"}}
    champion = {**STATUS["champion"], "serving": instead}
    table, scores = StringIO(), {"served": 0.0, "rolling": 0.0}

    text = shown(champion=champion)
    Console(width=160, file=table).print(loops({"shop": STATUS | {"champion": champion, "accuracy": scores}}))

    assert "vm serves 0, as it cannot load the champion: sha256 is 1, expected 2" in text
    assert "baseline@0, but vm serves 0" in table.getvalue()


def test_a_loop_without_sources_shows_none() -> None:
    assert "source" not in shown()
