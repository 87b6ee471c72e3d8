"""A deleted loop's learner is retired, also in its snapshot; a new life learns from its own outcomes only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.training.test_training_desk import counting, desk, learn, opening, say
from tests.training.training_world import event, house, losses, spec, state

from everloop_schemas.registry import LoopState
from everloop_schemas.training import ChallengeUpdated, RunRequested
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.messages import Follow, Learned, SnapshotWritten
from everloop_training.snapshots import Snapshots


def reborn(sequence: int, revision: int = 2) -> LoopState:
    """The loop, applied again under its name."""
    return state(sequence, life=revision).model_copy(update={"revision": revision})


def runs(answers: list[Any]) -> list[RunRequested]:
    """The runs that were asked for."""
    said = [e for a in answers if isinstance(a, Learned) for e in a.events]
    return [e for e in said if isinstance(e, RunRequested)]


def test_a_deletion_takes_the_learner_out_of_memory_and_out_of_the_snapshot(tmp_path: Path) -> None:
    room = desk(tmp_path, every=100)
    counting(say(room, Follow(state()), opening(), learn(0, 100)))
    assert list(Snapshots(tmp_path).load(0, 100).learners) == ["market"]

    gone = say(room, Follow(state(1, deleted=True)))
    counting(gone)
    late = say(room, learn(100, 150))

    assert [type(a) for a in gone] == [SnapshotWritten]
    assert Snapshots(tmp_path).load(0, 100).learners == {}
    assert runs(late) == []


def test_a_snapshot_of_the_life_before_is_not_taken_up_in_the_next(tmp_path: Path) -> None:
    first = say(desk(tmp_path, every=100), Follow(state()), opening(), learn(0, 100))
    counting(first)

    room = desk(tmp_path)
    say(room, Follow(reborn(2)), opening(end=100))
    [new] = runs(say(room, learn(100, 200)))

    [old] = runs(first)
    assert (old.data.start_offset, new.data.start_offset) == (0, 100)
    assert new.data.run != old.data.run
    assert new.revision == 2


@pytest.mark.app
async def test_outcomes_of_a_deleted_loop_hold_nobody_up_and_a_new_life_starts_at_its_first(tmp_path: Path) -> None:
    broker = MemoryBroker(partitions=1)
    other = spec(loop="other")
    async with house(broker, tmp_path) as room:
        await room.send(state(), state(of=other), *[event(i) for i in range(100)])
        await room.learned(99)
        await room.send(state(1, deleted=True))
        await room.send(*[event(i) for i in range(100, 150)], *[event(i, "other") for i in range(150, 250)])
        await room.send(reborn(2), *[event(i).model_copy(update={"revision": 2}) for i in range(250, 350)])
        await room.learned(349)
        said = room.said(ChallengeUpdated)

    new = losses([e for e in said if e.loop == "market" and e.revision == 2])
    assert min(new["0"]) == 250
    assert losses([e for e in said if e.loop == "other"])
    starts = [r.data.start_offset for r in room.said(RunRequested) if r.loop == "market"]
    assert starts == [0, 250]
