"""Batch lines are trained in a process of their own, one at a time; however a training ends, so does its run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.builders.events import MODEL, run_finished, run_requested
from tests.builders.loops import loop_state
from tests.builders.running import until
from tests.processes import named_children
from tests.training.training_harness import event, spec

from everloop_learning.loops import KnownLoops
from everloop_models.artifact import verify
from everloop_models.formats import load
from everloop_models.store import ArtifactStore, name_in
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.training import RunFinished, RunRequested
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.adapters.batch_process import BatchModel, BatchProcess, TrainBatch
from everloop_training.adapters.batch_trainer import BatchTrainer
from everloop_training.adapters.data_sets import DataSets
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.domain.trained_model import TrainedModel
from everloop_training.errors import WorkerUnavailable

pytestmark = [pytest.mark.frameworks, pytest.mark.process, pytest.mark.timeout(180)]
FOREST = {"estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 10}
SLOW = {"estimator": "sklearn.neural_network.MLPClassifier", "max_iter": 10_000, "tol": 0, "hidden_layer_sizes": 500}
OUTCOMES = 300
WITHIN_S = 90.0


class Ends:
    """The Learners port as far as a trainer needs it: what runs ended with, in order."""

    def __init__(self, runs: MemoryRunLog) -> None:
        self._runs = runs
        self.models: list[tuple[str, TrainedModel]] = []
        self.reasons: list[tuple[str, str]] = []
        self.away = 0

    async def take_model(self, loop: str, run: str, model: TrainedModel) -> RunFinished | None:
        self._be_away()
        self.models.append((run, model))
        return self._end(run)

    async def fail_run(self, loop: str, run: str, reason: str) -> RunFinished | None:
        self._be_away()
        self.reasons.append((run, reason))
        return self._end(run)

    def _be_away(self) -> None:
        if self.away:
            self.away -= 1
            raise WorkerUnavailable("the worker is restarting")

    def _end(self, run: str) -> RunFinished:
        end = run_finished(run.removeprefix("run-"))
        self._runs.add_finished(end)
        return end


class House:
    """A trainer with the outcomes of loop `market` on its log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder / "batch", ArtifactStore((folder / "artifacts").as_uri())
        self.loops, self.runs = KnownLoops(), MemoryRunLog()
        self.loops.apply(loop_state(spec()))
        self.ends = Ends(self.runs)
        self.broker = MemoryBroker(partitions=1)
        self.here = True

    def request(self, name: str, model: dict[str, Any], line: str = "forest", end: int = OUTCOMES - 1) -> RunRequested:
        """A run of a line is on the log."""
        data = {"loop": "market", "start": 0, "end": end, "revision": 1}
        run = run_requested(name, loop="market")
        changes = {"model": {**model}, "line": line, "data_set": data, "start_offset": 0, "requested_offset": end}
        body = run.model_dump(mode="json")
        run = RunRequested.model_validate({**body, "data": {**body["data"], **changes}})
        self.runs.add_requested(run)
        return run

    @asynccontextmanager
    async def trainer(self, train: TrainBatch | None = None, data_bytes: int = 10**9) -> AsyncIterator[None]:
        """A trainer that runs meanwhile."""
        for i in range(OUTCOMES):
            one = event(i)
            await self.broker.append(one.topic.name, one.key(), one.encode())
        train = train or BatchProcess(WITHIN_S, 2_000_000_000, 100_000_000)
        data_sets = DataSets(self.loops, self.broker.engine("training"))
        trainer = BatchTrainer(
            *(self.folder, self.loops, self.runs, lambda loop: self.here),
            *(data_sets, self.ends, self.store, train, data_bytes),  # type: ignore[arg-type]
        )
        job = asyncio.create_task(trainer.run())
        try:
            yield
        finally:
            job.cancel()
            await asyncio.wait([job])

    async def until(self, condition: Callable[[], Any]) -> Any:
        return await until(condition, WITHIN_S)


def children() -> list[psutil.Process]:
    """The processes that train."""
    return named_children("everloop_models.batch.child")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_a_run_ends_with_a_stored_model_and_its_data_set(house: House) -> None:
    house.request("a", FOREST)
    house.ends.away = 2  # the worker restarts meanwhile

    async with house.trainer():
        [(run, model)] = await house.until(lambda: house.ends.models)

    assert run == "run-a"
    assert model.data_set is not None
    assert (model.data_set.rows, model.data_set.name) == (OUTCOMES, f"market@0..{OUTCOMES - 1}#1")
    assert model.metrics["validation_accuracy"] > 0.9
    data = house.store.get(name_in(model.stored.uri), model.stored.size)
    verify(model.stored, data)
    assert load(data, "onnx").predict({"a": 0.9, "b": 0.5}).value is True
    assert not list(house.folder.iterdir())


async def test_the_process_is_nice_and_has_one_thread_of_computing(house: House) -> None:
    house.request("a", SLOW)

    async with house.trainer():
        [child] = await house.until(lambda: [c for c in children() if c.nice() > 0])
        environment = child.environ()

    assert environment["OMP_NUM_THREADS"] == "1"
    assert "EVERLOOP_POSTGRES_PASSWORD" not in environment


async def test_an_hour_of_training_is_ended_by_the_limit(house: House) -> None:
    house.request("a", SLOW)

    async with house.trainer(BatchProcess(3.0, 2_000_000_000, 100_000_000)):
        [(_, reason)] = await house.until(lambda: house.ends.reasons)

    assert reason.startswith("training took longer than 3 s and was ended: take a smaller window or model")
    assert not children()


async def test_too_little_memory_ends_the_run_with_the_setting_named(house: House) -> None:
    house.request("a", {**SLOW, "hidden_layer_sizes": 10_000, "batch_size": 10_000})

    async with house.trainer(BatchProcess(WITHIN_S, 10_000_000, 100_000_000)):
        [(_, reason)] = await house.until(lambda: house.ends.reasons)

    assert reason == (
        "training needs more than 10 MB of memory: take a smaller window or model, or raise "
        "EVERLOOP_TRAINING_BATCH_MEMORY_BYTES"
    )


async def test_a_model_or_a_data_set_that_is_too_large_ends_the_run(house: House) -> None:
    house.request("a", FOREST)
    async with house.trainer(BatchProcess(WITHIN_S, 2_000_000_000, 1_000)):
        await house.until(lambda: house.ends.reasons)

    house.request("b", FOREST)
    async with house.trainer(data_bytes=1_000):
        await house.until(lambda: len(house.ends.reasons) == 2)

    assert house.ends.reasons[0][1].endswith("bytes; at most 1,000 are stored")
    assert house.ends.reasons[1][1].startswith("the data set has more than")


async def test_a_data_set_that_is_none_ends_the_run(house: House) -> None:
    house.request("a", FOREST, end=10**6)

    async with house.trainer():
        [(_, reason)] = await house.until(lambda: house.ends.reasons)

    assert reason == "market@0..1000000#1 is no data set"


@pytest.mark.parametrize("how", ["ended", "deleted", "moved"])
async def test_a_training_that_nobody_wants_any_more_is_given_up_at_once(how: str, house: House) -> None:
    house.request("a", SLOW)

    async with house.trainer():
        await house.until(children)
        if how == "ended":
            house.runs.add_finished(run_finished("a"))
        elif how == "deleted":
            house.loops.apply(loop_state(spec(), sequence=2, deleted=True))
        else:
            house.here = False
        await house.until(lambda: not children())

    assert not house.ends.models + house.ends.reasons


async def test_a_service_that_stops_while_a_training_is_given_up_waits_until_that_has_ended(house: House) -> None:
    training, given_up, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def train(folder: Path, model: ModelSpec, spec: LoopSpec) -> BatchModel:
        try:
            training.set()
            await asyncio.Event().wait()
        finally:
            given_up.set()
            await asyncio.to_thread(time.sleep, 0.2)  # a process takes its time to exit
            ended.set()
        raise AssertionError("it is cancelled")

    house.request("a", SLOW)

    async with house.trainer(train):
        await asyncio.wait_for(training.wait(), WITHIN_S)
        house.runs.add_finished(run_finished("a"))
        await asyncio.wait_for(given_up.wait(), WITHIN_S)

    assert ended.is_set()


async def test_a_training_under_way_ends_before_the_newest_one_of_its_line_is_taken(house: House) -> None:
    house.request("a", FOREST)

    async with house.trainer():
        await house.until(children)
        house.request("b", FOREST, end=100)
        house.request("c", FOREST)
        await house.until(lambda: len(house.ends.models) == 2)

    assert [run for run, _ in house.ends.models] == ["run-a", "run-c"]


async def test_a_service_that_stops_leaves_no_process_and_no_files(house: House) -> None:
    house.request("a", SLOW)

    async with house.trainer():
        await house.until(children)

    await house.until(lambda: not children())
    assert not list(house.folder.iterdir())
    assert not house.ends.models + house.ends.reasons  # it is trained again


async def test_a_killed_training_ends_the_run_with_the_signal(house: House) -> None:
    house.request("a", SLOW)

    async with house.trainer():
        [child] = await house.until(children)
        os.kill(child.pid, signal.SIGKILL)
        [(_, reason)] = await house.until(lambda: house.ends.reasons)

    assert reason == "the process that trained it was ended by SIGKILL; the log of the service has more"


async def test_files_that_a_killed_service_left_are_removed_and_the_run_is_trained_with_the_same_bytes(
    house: House,
) -> None:
    house.request("a", FOREST)
    async with house.trainer():
        await house.until(lambda: house.ends.models)
    house.runs = MemoryRunLog()  # as after a restart, before the end of the run was on the log
    left = house.folder / "run-a"
    left.mkdir()
    (left / "rows.ndjson").write_text("half")
    house.request("a", FOREST)

    async with house.trainer():
        await house.until(lambda: len(house.ends.models) == 2)

    (_, first), (_, second) = house.ends.models
    assert first.stored == second.stored
    assert first.data_set == second.data_set


async def test_runs_of_other_kinds_are_left_alone(house: House) -> None:
    house.request("a", {"trainer": "pytorch"}, line="network")
    house.runs.add_requested(run_requested("online", loop="market"))
    house.request("b", FOREST)

    async with house.trainer():
        await house.until(lambda: house.ends.models)

    assert [run for run, _ in house.ends.models] == ["run-b"]
    assert MODEL.kind == "online"


def test_a_training_ends_with_its_service_even_if_that_is_killed(tmp_path: Path) -> None:
    from everloop_models.batch.child import main

    with pytest.raises(SystemExit, match="the service has ended"):
        _in_a_fork(lambda: main(tmp_path, parent=1 if os.getppid() != 1 else 2, memory_bytes=1, model_bytes=1))


def _in_a_fork(work: Callable[[], None]) -> None:
    """Run in a child, whose signals and privileges it may change; its SystemExit is raised here."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            work()
        except SystemExit as e:
            os.write(writer, str(e).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader) as said:
        raise SystemExit(said.read())
