"""An outcome that kills the worker, or that it raises over, is parked, and the rest is learned as without it."""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from tests.training.training_world import event, house, losses, spec, state

from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetter
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.training import ChallengeUpdated, ModelTrained
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.adapters.process import WorkerProcess
from everloop_training.at_work import AtWork, left_behind
from everloop_training.domain.learner import LoopLearner
from everloop_training.domain.outcome import Outcome

LINE = "logistic-regression-0"
OTHER = spec(loop="other")
_learn = LoopLearner.learn


class Mortal(WorkerProcess):
    """A worker that is killed, as for lack of memory, whenever it learns the outcome `o50-0` of the loop `market`."""

    command = (
        sys.executable,
        "-c",
        "import os, signal\n"
        "from everloop_training.domain.lines import LearningLine\n"
        "from everloop_training.worker import main\n"
        "step = LearningLine.step\n"
        "def mortal(self, outcome, losses):\n"
        "    if outcome.id == 'o50-0' and 'a' in outcome.features:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, outcome, losses)\n"
        "LearningLine.step = mortal\n"
        "main()\n",
    )


def raising(self: LoopLearner, outcome: Outcome) -> None:
    """Learning that fails over one outcome of one loop, when half of its lines have learned it."""
    _learn(self, outcome)
    if (self.loop, outcome.id) == ("market", "o50-0"):
        raise FloatingPointError("not finite")


async def _letters(room: Any, count: int = 1) -> list[DeadLetter]:
    topic = DEAD_LETTERS["training"].topic
    await room.until(lambda: len(room.broker.events(topic)) >= count, 90)
    return list(room.broker.events(topic))


def _artifacts(room: Any) -> dict[str, str]:
    return {e.data.version: e.data.sha256 for e in room.said(ModelTrained) if e.loop == "market"}


async def test_an_outcome_that_the_worker_raises_over_is_parked_and_both_loops_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoopLearner, "learn", raising)
    broker = MemoryBroker(partitions=1)

    async with house(broker, tmp_path) as room:
        await room.send(state(), state(of=OTHER))
        await room.send(*[e for i in range(200) for e in (event(i), event(i, loop="other"))])
        await room.learned(399)
        [letter] = await _letters(room)
        told = losses([e for e in room.said(ChallengeUpdated) if e.loop == "market"])[LINE]
        others = losses([e for e in room.said(ChallengeUpdated) if e.loop == "other"])["logistic-regression-1"]

    assert (letter.data.topic, letter.data.offset) == (OutcomeObserved.topic.name, 100)
    assert "FloatingPointError" in letter.data.reason
    assert b64decode(letter.data.value or "") == event(50).encode()
    assert sorted(told) == [2 * i for i in range(200) if i != 50]
    assert sorted(others) == [2 * i + 1 for i in range(200)]


async def test_who_learns_again_from_the_log_without_the_parked_outcome_comes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoopLearner, "learn", raising)
    broker, live, again = MemoryBroker(partitions=1), tmp_path / "live", tmp_path / "again"
    async with house(broker, live, snapshot_outcomes=20) as room:
        await room.send(state(champion=f"{LINE}@10"), *[event(i) for i in range(300)])
        await room.learned(299)
        await room.until(lambda: len(_artifacts(room)) >= 2)
        first = _artifacts(room)
        parked = (live / "training" / "snapshots" / "partition-0.parked").read_text()

    monkeypatch.setattr(LoopLearner, "learn", _learn)
    (again / "training" / "snapshots").mkdir(parents=True)
    (again / "training" / "snapshots" / "partition-0.parked").write_text(parked)
    anew = MemoryBroker(partitions=1)
    async with house(anew, again) as room:
        await room.send(state(champion=f"{LINE}@10"), *[event(i) for i in range(300)])
        await room.learned(299)
        await room.until(lambda: len(_artifacts(room)) >= 2)
        second = _artifacts(room)

    assert json.loads(parked) == {"50": "o50-0"}
    assert first == second


@pytest.mark.process
@pytest.mark.timeout(200)  # the worker is started four times
async def test_what_kills_the_worker_three_times_is_parked_and_all_loops_go_on(
    tmp_path: Path,
) -> None:
    broker = MemoryBroker(partitions=1)
    async with house(broker, tmp_path, Mortal.start) as room:
        await room.send(state(), state(of=OTHER))
        await room.send(*[event(i) for i in range(100)], *[event(i + 100, loop="other") for i in range(100)])
        [letter] = await _letters(room)
        await room.until(lambda: any(199 in e.data.offsets for e in room.said(ChallengeUpdated)), 90)
        told = losses([e for e in room.said(ChallengeUpdated) if e.loop == "market"])[LINE]

    assert letter.data.offset == 50
    assert letter.data.reason.startswith("crash_loop")
    assert sorted(told) == [i for i in range(100) if i != 50]


def test_what_is_in_hand_can_be_read_when_the_process_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "at-work"
    nobody = left_behind(file)
    place = AtWork(file)
    fresh = left_behind(file)

    place.on(3, 2**40)
    busy = left_behind(file)
    place.clear()

    assert (nobody, fresh, busy, left_behind(file)) == (None, None, (3, 2**40), None)
