"""A deleted loop's learner is removed, from its snapshot too; a new lifetime learns from its own outcomes only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.training.test_training_dispatcher import dispatcher, learn, open_partition, put_snapshots_in_place, send
from tests.training.training_harness import event, losses, running_training, spec, state

from everloop_schemas.registry import LoopState
from everloop_schemas.training import ChallengeUpdated, RunRequested
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.worker.protocol.messages import ApplyLoopState, EventsProduced, SnapshotWritten
from everloop_training.worker.snapshots import Snapshots


def applied_again(sequence: int, revision: int = 2) -> LoopState:
    """The loop, applied again under its name."""
    return state(sequence, life=revision).copy_with(revision=revision)


def runs(answers: list[Any]) -> list[RunRequested]:
    """The runs that were requested."""
    events = [e for a in answers if isinstance(a, EventsProduced) for e in a.events]
    return [e for e in events if isinstance(e, RunRequested)]


def test_a_deletion_takes_the_learner_out_of_memory_and_out_of_the_snapshot(tmp_path: Path) -> None:
    worker = dispatcher(tmp_path, every=100)
    put_snapshots_in_place(send(worker, ApplyLoopState(state()), open_partition(), learn(0, 100)))
    assert list(Snapshots(tmp_path).load(0, 100).learners) == ["market"]

    gone = send(worker, ApplyLoopState(state(1, deleted=True)))
    put_snapshots_in_place(gone)
    late = send(worker, learn(100, 150))

    assert [type(a) for a in gone] == [SnapshotWritten]
    assert Snapshots(tmp_path).load(0, 100).learners == {}
    assert runs(late) == []


def test_a_snapshot_of_the_lifetime_before_is_not_used_in_the_next(tmp_path: Path) -> None:
    first = send(dispatcher(tmp_path, every=100), ApplyLoopState(state()), open_partition(), learn(0, 100))
    put_snapshots_in_place(first)

    worker = dispatcher(tmp_path)
    send(worker, ApplyLoopState(applied_again(2)), open_partition(end=100))
    [new] = runs(send(worker, learn(100, 200)))

    [old] = runs(first)
    assert (old.data.start_offset, new.data.start_offset) == (0, 100)
    assert new.data.run != old.data.run
    assert new.revision == 2


@pytest.mark.app
async def test_outcomes_of_a_deleted_loop_block_nothing_and_a_new_lifetime_starts_at_its_first(tmp_path: Path) -> None:
    broker = MemoryBroker(partitions=1)
    other = spec(loop="other")
    async with running_training(broker, tmp_path) as training:
        await training.publish(state(), state(of=other), *[event(i) for i in range(100)])
        await training.wait_until_learned(99)
        await training.publish(state(1, deleted=True))
        await training.publish(*[event(i) for i in range(100, 150)], *[event(i, "other") for i in range(150, 250)])
        await training.publish(applied_again(2), *[event(i).copy_with(revision=2) for i in range(250, 350)])
        await training.wait_until_learned(349)
        published = training.published(ChallengeUpdated)

    new = losses([e for e in published if e.loop == "market" and e.revision == 2])
    assert min(new["0"]) == 250
    assert losses([e for e in published if e.loop == "other"])
    starts = [r.data.start_offset for r in training.published(RunRequested) if r.loop == "market"]
    assert starts == [0, 250]
