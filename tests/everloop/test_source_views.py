"""How `everloop status LOOP` shows the Kafka sources of a loop."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from everloop.cli.views import status

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


def test_a_loop_without_sources_shows_none() -> None:
    assert "source" not in shown()
