"""Several workers: each learns its partitions, the same whatever their number, and one that exits stops no other."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from tests.builders.running import http_client
from tests.training.training_harness import RunningTraining, alert, event, losses, running_training, spec, state

from everloop_learning.loops import KnownLoops
from everloop_learning.outcome import Outcome
from everloop_schemas.training import ChallengeUpdated, ModelTrained, RunRequested
from everloop_shared.messaging.memory import MemoryBroker, MemoryEngine
from everloop_shared.spans.recorder import Span, SpanRecorder
from everloop_shared.tracing import traced
from everloop_training.adapters.current_worker import CurrentWorker
from everloop_training.adapters.event_publisher import EventPublisher
from everloop_training.adapters.history import LogHistory
from everloop_training.adapters.learn_spans import LearnSpans
from everloop_training.adapters.parked import ParkedOutcomes
from everloop_training.adapters.supervisor import WorkerSupervisor
from everloop_training.adapters.worker_client import OutcomeFeeder
from everloop_training.errors import WorkerBusy, WorkerUnavailable
from everloop_training.settings import TrainingSettings
from everloop_training.worker.protocol.pipe import WorkerProcess

LOOPS = ("south", "energy", "prices", "north", "east", "market")
"""They lie in the partitions 0, 1, 1, 2, 2 and 3 of four."""
LINE = "logistic-regression-0"
Learned = tuple[dict[str, dict[str, dict[int, float]]], dict[tuple[str, str], str], set[str]]


def _workers(training: RunningTraining) -> list[WorkerSupervisor]:
    return [one for one in training.service.resources if isinstance(one, WorkerSupervisor)]


def _losses(training: RunningTraining, loop: str) -> dict[str, dict[int, float]]:
    return losses([e for e in training.published(ChallengeUpdated) if e.loop == loop])


def _count(training: RunningTraining, loop: str) -> int:
    return len({offset for e in training.published(ChallengeUpdated) if e.loop == loop for offset in e.data.offsets})


def _learned(training: RunningTraining) -> Learned:
    """The losses of each loop, the sha256 of each version, and the ids of all runs."""
    shas = {(e.loop, e.data.version): e.data.sha256 for e in training.published(ModelTrained)}
    return {n: _losses(training, n) for n in LOOPS}, shas, {e.id for e in training.published(RunRequested)}


async def _publish(training: RunningTraining, start: int, stop: int, loops: Sequence[str] = LOOPS) -> None:
    await training.publish(*[event(i, loop) for i in range(start, stop) for loop in loops])


async def _wait(training: RunningTraining, count: int, loops: Sequence[str] = LOOPS, within_s: float = 60.0) -> None:
    await training.until(lambda: all(_count(training, loop) >= count for loop in loops), within_s)


@pytest.mark.app
async def test_several_workers_learn_the_same_to_the_last_bit_though_their_number_changes_at_each_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_training.worker.learners.loop_learner.MIN_REFRESH_S", 0.0)  # outcomes come at once
    states = [state(of=spec(loop=loop), champion=f"{LINE}@10") for loop in LOOPS]
    found = []

    for runs in ((1,), (2,), (4,), (1, 4, 2)):
        broker, data, step = MemoryBroker(partitions=4), tmp_path / "-".join(map(str, runs)), 360 // len(runs)
        for n, workers in enumerate(runs):
            async with running_training(broker, data, workers=workers, snapshot_outcomes=50) as training:
                await training.publish(*states)
                await _publish(training, n * step, (n + 1) * step)
                await _wait(training, (n + 1) * step)
        found.append(_learned(training))

    reported, versions, requested = found[0]
    common = versions.keys() & set.intersection(*(set(shas) for _, shas, _ in found))  # refreshes may be left out
    assert {len(values) for values in reported["east"].values()} == {360}
    assert len(common) >= 2 * len(LOOPS)
    for values, shas, runs_requested in found[1:]:
        assert (values, runs_requested) == (reported, requested)
        assert {key: shas[key] for key in common} == {key: versions[key] for key in common}


@pytest.mark.process
@pytest.mark.timeout(180)  # three workers are started
async def test_a_killed_worker_leaves_the_others_at_work_and_readiness_names_it(tmp_path: Path) -> None:
    broker = MemoryBroker(partitions=2)
    async with running_training(broker, tmp_path, WorkerProcess.start, workers=2, snapshot_outcomes=150) as training:
        first, second = _workers(training)
        loops = {broker.partition_for(loop.encode()): loop for loop in LOOPS}  # one for each partition
        await training.publish(*[state(of=spec(loop=loop)) for loop in loops.values()])
        await _publish(training, 0, 400, [*loops.values()])
        await _wait(training, 400, [*loops.values()])
        pids = first.worker_pid, second.worker_pid

        os.kill(pids[0] or 0, signal.SIGKILL)
        await training.until(lambda: first.not_ready() is not None)
        await _publish(training, 400, 800, [*loops.values()])
        await _wait(training, 800, [loops[1]])
        while_away, learned_while_away = training.service.not_ready(), _count(training, loops[0])
        await _wait(training, 800, [loops[0]])

        assert (while_away, learned_while_away) == ("worker 0 is starting", 400)
        assert second.worker_pid == pids[1]
        assert first.worker_pid not in pids
        for loop in loops.values():
            assert sorted(_losses(training, loop)[LINE]) == list(range(800))
        left = [first.worker_pid, second.worker_pid]
    assert not any(psutil.pid_exists(pid or 0) for pid in left)


@pytest.mark.app
async def test_runs_and_alerts_reach_the_worker_that_learns_their_loop(tmp_path: Path) -> None:
    broker = MemoryBroker(partitions=4)
    async with running_training(broker, tmp_path, workers=3) as training, http_client(training.service) as client:
        await training.publish(*[state(of=spec(loop=loop)) for loop in LOOPS])
        await training.publish(*[event(i, loop) for loop in LOOPS for i in range(700)])
        await _wait(training, 700)

        at = {e.loop: max(e.data.offsets) for e in training.published(ChallengeUpdated)}
        await training.publish(*[alert(at[loop] - 50, at[loop] - 99, f"of {loop}", loop=loop) for loop in LOOPS])

        await training.until(lambda: len(_drift_runs(training)) == len(LOOPS))
        answers = [await client.post(f"/v1/loops/{loop}/runs", json={"key": "k"}) for loop in LOOPS]

        assert {answer.status_code for answer in answers} == {202}
        assert all(answer.json()["run"] for answer in answers)


def _drift_runs(training: RunningTraining) -> set[str]:
    return {e.loop for e in training.published(RunRequested) if e.data.trigger == "drift"}


def test_each_worker_has_files_of_its_own_and_an_equal_part_of_the_limits(tmp_path: Path) -> None:
    settings = TrainingSettings(data=tmp_path, instance="a", workers=4, in_flight=10, model_bytes=1_000_000_000)

    files = [settings.of_worker(n).in_progress_file().name for n in range(4)]

    assert files == ["at-work-a", "at-work-a.1", "at-work-a.2", "at-work-a.3"]
    assert (settings.part(settings.in_flight), settings.part(settings.model_bytes)) == (3, 250_000_000)
    assert len({settings.of_worker(n).snapshot_folder() for n in range(4)}) == 1


@pytest.mark.app
async def test_where_there_are_other_workers_outcomes_wait_on_the_log_for_one_that_is_busy_or_starts(
    tmp_path: Path,
) -> None:
    current, settings = CurrentWorker(), TrainingSettings(data=tmp_path, workers=2, in_flight=10)
    engine = MemoryEngine(MemoryBroker(), "training")
    parked = ParkedOutcomes(tmp_path, LogHistory(KnownLoops(), engine), EventPublisher(engine))
    feeder = OutcomeFeeder(settings, current, parked)

    with pytest.raises(WorkerUnavailable, match="is starting"):
        await feeder.put(0, "market", _outcome(0))
    current.ready = True
    for offset in range(5):  # its part of ten
        await feeder.put(0, "market", _outcome(offset))
    with pytest.raises(WorkerBusy, match="5 outcomes in flight"):
        await feeder.put(0, "market", _outcome(5))

    assert feeder.handed_over == {0: 4}


def test_an_outcome_of_a_recorded_trace_has_a_span_until_the_worker_has_learned_its_batch() -> None:
    ended: list[Span] = []
    spans, trace = LearnSpans(SpanRecorder(0.0, 1.0, ended.append)), f"00-{'a' * 32}-{'b' * 16}-01"
    for place in range(150):
        with traced(trace if place in (10, 120) else trace[:-2] + "00"):
            spans.put(0, place, "market")
    for first, count in ((0, 100), (100, 50)):
        spans.sent(0, first, count)
    spans.flushed()

    learned = []
    for count in (7, 100, 50):  # the first catches the worker up
        spans.learned(count)
        learned.append([span.attributes["everloop.outcomes"] for span in ended])

    assert learned == [[], [100], [100, 50]]
    assert {(span.name, span.trace_id, span.parent_id) for span in ended} == {("learn", "a" * 32, "b" * 16)}


def _outcome(offset: int) -> Outcome:
    return Outcome.from_event(event(offset), offset)
