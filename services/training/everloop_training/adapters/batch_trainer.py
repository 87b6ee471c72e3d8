"""Trains the models of batch lines, one at a time: reads the data, trains in another process, stores the model."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from everloop_learning.loops import KnownLoops
from everloop_models.artifact import Artifact
from everloop_models.batch.child import ROWS
from everloop_models.seals import UNSEALED, Seals
from everloop_models.store import ArtifactStore
from everloop_schemas.training import RunRequested, StoredModel
from everloop_shared.errors import ServiceError
from everloop_training.adapters.batch_process import BatchModel, TrainBatch, TrainingFailed
from everloop_training.adapters.data_sets import DataSets
from everloop_training.adapters.long_work import LOOK_EVERY_S, done_while_wanted, retried
from everloop_training.adapters.row_files import LimitedRowWriter, write_rows
from everloop_training.domain.trained_model import REASON_CHARACTERS, TrainedModel
from everloop_training.metrics import BATCH_RUNS, BATCH_SECONDS
from everloop_training.ports import Learners, RunLog

log = logging.getLogger(__name__)
WAITS = "a batch training"


class BatchTrainer:
    """Takes the open runs of batch lines of the loops that are learned here, oldest first, in a folder of its own.

    Of a line's runs the newest is taken; one that is under way is not interrupted by a newer one, unless the learners
    end it because of that. A run that has ended otherwise, or whose loop is deleted, is given up at once. One that has
    not ended when the service does is trained again by the next one, with the same data and seed. A data set of more
    than `max_data_bytes` is not trained on.
    """

    def __init__(
        self,
        folder: Path,
        loops: KnownLoops,
        runs: RunLog,
        is_learned_here: Callable[[str], bool],
        data_sets: DataSets,
        learners: Learners,
        store: ArtifactStore,
        train: TrainBatch,
        max_data_bytes: int,
        seals: Seals = UNSEALED,
    ) -> None:
        self._folder, self._loops, self._runs, self._is_learned_here = folder, loops, runs, is_learned_here
        self._data_sets, self._learners, self._store, self._train = data_sets, learners, store, train
        self._max_data_bytes, self._seals = max_data_bytes, seals

    async def run(self) -> None:
        """Train what is to be trained, for ever; cancelling it ends a training that is under way."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)  # of a service that was killed
        while True:
            run = self._next()
            if run is None:
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                await self._train_while_wanted(run)

    def _next(self) -> RunRequested | None:
        runs = [run for run in self._runs.open_trainings() if run.data.model.kind == "batch"]
        newest = {(run.loop, run.data.line): run.data.run for run in runs}
        taken = (run for run in runs if newest[run.loop, run.data.line] == run.data.run)
        return next((run for run in taken if self._is_wanted(run)), None)

    def _is_wanted(self, run: RunRequested) -> bool:
        """Whether a run is open, and of a loop that is learned here."""
        if self._loops.is_past(run) or self._loops.get(run.loop) is None or not self._is_learned_here(run.loop):
            return False
        return any(each.data.run == run.data.run for each in self._runs.open_trainings(run.loop))

    async def _train_while_wanted(self, run: RunRequested) -> None:
        where = {"loop": run.loop, "run": run.data.run, "line": run.data.line}
        log.info("training a batch model", extra=where)
        result = await done_while_wanted(self._train_and_end(run), lambda: self._is_wanted(run))
        BATCH_RUNS.labels(run.loop, result).inc()
        log.info("a batch training has ended", extra={**where, "result": result})

    async def _train_and_end(self, run: RunRequested) -> str:
        """Train, and let the learners take the model, or the reason why there is none; returns the result."""
        loop, name = run.loop, run.data.run
        folder = self._folder / name
        try:
            folder.mkdir(parents=True)
            model = await self._make(run, folder)
        except (TrainingFailed, ServiceError, OSError) as e:
            reason = (e.detail if isinstance(e, ServiceError) else str(e))[:REASON_CHARACTERS]
            log.warning("a batch model was not trained", extra={"loop": loop, "run": name, "reason": reason})
            await retried(lambda: self._learners.fail_run(loop, name, reason), WAITS)
            return "failed"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        await retried(lambda: self._learners.take_model(loop, name, model), WAITS)
        return "trained"

    async def _make(self, run: RunRequested, folder: Path) -> TrainedModel:
        assert run.data.data_set is not None, "open trainings have one"
        data_set = await write_rows(
            self._data_sets,
            run.data.data_set,
            folder / ROWS,
            lambda file: LimitedRowWriter(file, self._max_data_bytes),
            WAITS,
        )
        spec = self._loops.require(run.loop).data.spec
        trained = await retried(lambda: self._train(folder, run.data.model, spec), WAITS)
        BATCH_SECONDS.labels(run.loop).observe(trained.seconds)
        version = f"{run.data.line}@{data_set.end}"
        stored = await retried(lambda: asyncio.to_thread(self._put, run.loop, version, trained), WAITS)
        return TrainedModel(stored, data_set, trained.metrics, trained.seconds)

    def _put(self, loop: str, version: str, trained: BatchModel) -> StoredModel:
        artifact = Artifact.of(trained.data)
        name = self._store.name(loop, version, artifact.sha256, "onnx")
        return StoredModel(
            uri=self._store.put(name, artifact.data),
            sha256=artifact.sha256,
            size=artifact.size,
            format="onnx",
            signature=trained.signature,
            seal=self._seals.make(name, artifact.sha256),
        )
