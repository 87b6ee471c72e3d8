"""An outcome that kills the worker, or cannot be learned, is parked; the rest is learned as if it did not exist."""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from tests.training.training_harness import event, losses, running_training, spec, state

from everloop_learning.outcome import Outcome
from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetter
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.training import ChallengeUpdated, ModelTrained
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.worker.learners.loop_learner import LoopLearner
from everloop_training.worker.protocol.pipe import WorkerProcess
from everloop_training.worker.protocol.progress import OutcomeInProgress, read_in_progress

LINE = "logistic-regression-0"
OTHER = spec(loop="other")
_learn = LoopLearner.learn


class FragileWorker(WorkerProcess):
    """A worker that is killed, as for lack of memory, whenever it learns the outcome `o50-0` of the loop `market`."""

    command = (
        sys.executable,
        "-c",
        "import os, signal\n"
        "from everloop_training.worker.learners.learning_line import LearningLine\n"
        "from everloop_training.worker.main import main\n"
        "step = LearningLine.predict_then_learn\n"
        "def fragile(self, outcome, losses):\n"
        "    if outcome.id == 'o50-0' and 'a' in outcome.features:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, outcome, losses)\n"
        "LearningLine.predict_then_learn = fragile\n"
        "main()\n",
    )


def learn_and_raise(self: LoopLearner, outcome: Outcome) -> None:
    """Learning that fails over one outcome of one loop, when half of its lines have learned it."""
    _learn(self, outcome)
    if (self.loop, outcome.id) == ("market", "o50-0"):
        raise FloatingPointError("not finite")


async def _dead_letters(training: Any, count: int = 1) -> list[DeadLetter]:
    topic = DEAD_LETTERS["training"].topic
    await training.until(lambda: len(training.broker.events(topic)) >= count, 90)
    return list(training.broker.events(topic))


def _artifacts(training: Any) -> dict[str, str]:
    return {e.data.version: e.data.sha256 for e in training.published(ModelTrained) if e.loop == "market"}


async def test_an_outcome_that_cannot_be_learned_is_parked_and_both_loops_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoopLearner, "learn", learn_and_raise)
    broker = MemoryBroker(partitions=1)

    async with running_training(broker, tmp_path) as training:
        await training.publish(state(), state(of=OTHER))
        await training.publish(*[e for i in range(200) for e in (event(i), event(i, loop="other"))])
        await training.wait_until_learned(399)
        [dead_letter] = await _dead_letters(training)
        reported = losses([e for e in training.published(ChallengeUpdated) if e.loop == "market"])[LINE]
        others = losses([e for e in training.published(ChallengeUpdated) if e.loop == "other"])["logistic-regression-1"]

    assert (dead_letter.data.topic, dead_letter.data.offset) == (OutcomeObserved.topic.name, 100)
    assert "FloatingPointError" in dead_letter.data.reason
    assert b64decode(dead_letter.data.value or "") == event(50).encode()
    assert sorted(reported) == [2 * i for i in range(200) if i != 50]
    assert sorted(others) == [2 * i + 1 for i in range(200)]


async def test_learning_the_log_again_without_the_parked_outcome_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_training.worker.learners.loop_learner.MIN_REFRESH_S", 0.0)  # outcomes come at once
    monkeypatch.setattr(LoopLearner, "learn", learn_and_raise)
    broker, live, again = MemoryBroker(partitions=1), tmp_path / "live", tmp_path / "again"
    async with running_training(broker, live, snapshot_outcomes=20) as training:
        await training.publish(state(champion=f"{LINE}@10"), *[event(i) for i in range(300)])
        await training.wait_until_learned(299)
        await training.until(lambda: len(_artifacts(training)) >= 2)
        parked = (live / "training" / "snapshots" / "partition-0.parked").read_text()

    first = _artifacts(training)

    monkeypatch.setattr(LoopLearner, "learn", _learn)
    (again / "training" / "snapshots").mkdir(parents=True)
    (again / "training" / "snapshots" / "partition-0.parked").write_text(parked)
    anew = MemoryBroker(partitions=1)
    async with running_training(anew, again) as training:
        await training.publish(state(champion=f"{LINE}@10"), *[event(i) for i in range(300)])
        await training.wait_until_learned(299)
        await training.until(lambda: len(_artifacts(training)) >= 2)
    second = _artifacts(training)

    assert json.loads(parked) == {"50": "o50-0"}
    assert first == second


@pytest.mark.process
@pytest.mark.timeout(200)  # the worker is started four times
async def test_an_outcome_that_kills_the_worker_three_times_is_parked_and_all_loops_go_on(
    tmp_path: Path,
) -> None:
    broker = MemoryBroker(partitions=1)
    async with running_training(broker, tmp_path, FragileWorker.start) as training:
        await training.publish(state(), state(of=OTHER))
        await training.publish(*[event(i) for i in range(100)], *[event(i + 100, loop="other") for i in range(100)])
        [dead_letter] = await _dead_letters(training)
        await training.until(lambda: any(199 in e.data.offsets for e in training.published(ChallengeUpdated)), 90)
        reported = losses([e for e in training.published(ChallengeUpdated) if e.loop == "market"])[LINE]

    assert dead_letter.data.offset == 50
    assert dead_letter.data.reason.startswith("crash_loop")
    assert sorted(reported) == [i for i in range(100) if i != 50]


def test_the_outcome_in_progress_can_be_read_when_the_process_has_exited(tmp_path: Path) -> None:
    file = tmp_path / "at-work"
    nobody = read_in_progress(file)
    in_progress = OutcomeInProgress(file)
    fresh = read_in_progress(file)

    in_progress.mark(3, 2**40)
    busy = read_in_progress(file)
    in_progress.clear()

    assert (nobody, fresh, busy, read_in_progress(file)) == (None, None, (3, 2**40), None)
