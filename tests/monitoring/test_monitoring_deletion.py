"""A deleted loop is no longer shown, and its next lifetime counts nothing of the previous one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.builders.events import observation, prediction_made
from tests.monitoring.monitoring_service import outcome, running, state

from everloop_learning.loops import KnownLoops
from everloop_monitoring.adapters.row_names import LifetimeNames
from everloop_schemas.envelope import Event
from everloop_schemas.registry import LoopState
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.app, pytest.mark.usefixtures("databases")]


def with_revision(event: Event, revision: int) -> Event:
    """The same event, of a revision of the loop."""
    return event.copy_with(revision=revision)


def reapplied(loop: str = "market") -> LoopState:
    """The loop, applied again under its name."""
    return state(loop, sequence=3, life=2).copy_with(revision=2)


async def test_a_deleted_loop_is_not_found_and_its_next_lifetime_counts_from_zero(tmp_path: Path) -> None:
    broker = MemoryBroker(partitions=1)
    async with running(broker, tmp_path) as monitoring:
        seen = [observation("a"), prediction_made("a"), outcome("a", True)]
        await monitoring.publish(state(), *(with_revision(e, 1) for e in seen))
        before = await monitoring.status()

        await monitoring.publish(
            state(sequence=2, deleted=True), *(with_revision(e, 1) for e in (prediction_made("b"), outcome("b", True)))
        )
        await monitoring.caught_up()
        gone = await monitoring.get("status")
        listed = (await monitoring.http.get("/v1/loops")).json()
        await monitoring.publish(
            reapplied(),
            with_revision(outcome("c", True), 1),
            *(with_revision(e, 2) for e in seen),
            with_revision(outcome("a", False), 1),
        )
        after = await monitoring.status()

    assert (before["events"], before["predictions"], before["outcomes"]) == (1, 1, 1)
    assert "was deleted" in gone["detail"]
    assert listed == {"loops": []}
    assert (after["events"], after["predictions"], after["outcomes"]) == (1, 1, 1), "the same ids are new"
    assert after["accuracy"]["served"] == 1.0


def test_the_names_of_rows_fit_their_column_and_differ_by_lifetime() -> None:
    loops, long = KnownLoops(), "l" + "x" * 62
    first = [LifetimeNames(loops)(name) for name in ("market", long)]
    for name in ("market", long):
        loops.apply(reapplied(name))

    second = [LifetimeNames(loops)(name) for name in ("market", long)]

    assert first == ["market", long]
    assert second[0] == "market@2"
    assert len(second[1]) <= 63
    assert second[1].endswith("@2")
