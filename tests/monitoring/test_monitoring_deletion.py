"""A deleted loop is not shown any more, and in a new life nothing of the one before is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.monitoring.monitoring_house import observation, outcome, prediction, running, state

from everloop_learning.loops import KnownLoops
from everloop_monitoring.adapters import Scopes
from everloop_schemas.envelope import Event
from everloop_schemas.registry import LoopState
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.app, pytest.mark.usefixtures("databases")]


def of(event: Event, revision: int) -> Event:
    """The same event, of a revision of the loop."""
    return event.model_copy(update={"revision": revision})


def reborn(loop: str = "market") -> LoopState:
    """The loop, applied again under its name."""
    return state(loop, sequence=3, life=2).model_copy(update={"revision": 2})


async def test_a_deleted_loop_is_gone_and_its_next_life_counts_from_nothing(tmp_path: Path) -> None:
    broker = MemoryBroker(partitions=1)
    async with running(broker, tmp_path) as room:
        seen = [observation("a"), prediction("a"), outcome("a", True)]
        await room.send(state(), *(of(e, 1) for e in seen))
        before = await room.status()

        await room.send(state(sequence=2, deleted=True), *(of(e, 1) for e in (prediction("b"), outcome("b", True))))
        await room.caught_up()
        gone = await room.ask("status")
        listed = (await room.http.get("/v1/loops")).json()
        await room.send(reborn(), of(outcome("c", True), 1), *(of(e, 2) for e in seen), of(outcome("a", False), 1))
        after = await room.status()

    assert (before["events"], before["predictions"], before["outcomes"]) == (1, 1, 1)
    assert "was deleted" in gone["detail"]
    assert listed == {"loops": []}
    assert (after["events"], after["predictions"], after["outcomes"]) == (1, 1, 1), "the same ids are new"
    assert after["accuracy"]["served"] == 1.0


def test_the_names_of_rows_fit_their_column_and_differ_by_life() -> None:
    loops, long = KnownLoops(), "l" + "x" * 62
    first = [Scopes(loops)(name) for name in ("market", long)]
    for name in ("market", long):
        loops.apply(reborn(name))

    second = [Scopes(loops)(name) for name in ("market", long)]

    assert first == ["market", long]
    assert second[0] == "market@2"
    assert len(second[1]) <= 63
    assert second[1].endswith("@2")
