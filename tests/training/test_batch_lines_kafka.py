"""Batch lines on real Kafka and real data, with training as a process that is killed while it trains."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
import pytest
from tests.bench import stream
from tests.builders.loops import loop_state
from tests.processes import named_children, runs
from tests.training.training_harness import losses, of
from tests.training.training_process import WITHIN_S, Published, service, settings_of

from everloop_learning.loops import KnownLoops
from everloop_models.artifact import verify
from everloop_models.batch.rows import read_rows
from everloop_models.store import ArtifactStore, name_in
from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import ChallengeUpdated, ModelTrained, RunFinished, RunRequested
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import Engine, connected
from everloop_training.adapters.data_sets import DataSets, RowWriter
from everloop_training.settings import TrainingSettings

pytestmark = [pytest.mark.frameworks, pytest.mark.kafka, pytest.mark.timeout(300)]
ONLINE, BATCH = "logistic-regression-0", "hist-gradient-boosting-classifier-0"
SPEC = LoopSpec.model_validate(
    {
        **stream.spec(),
        "models": [
            *stream.spec()["models"],
            {
                "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
                "window": "2000 outcomes",
                "every": "1000 outcomes",
                "max_iter": 100,
            },
        ],
    }
)
KINDS = (RunRequested, RunFinished, ModelTrained, ChallengeUpdated)


@pytest.fixture
def settings(kafka: Any, tmp_path: Path) -> TrainingSettings:
    """Of an installation of its own on the session's broker."""
    return settings_of(kafka, tmp_path)


@pytest.fixture
async def engine(settings: TrainingSettings) -> AsyncIterator[Engine]:
    """Publishes what other services would, and reads the log."""
    async with connected(kafka_factory(settings)("feature")) as engine:
        yield engine


def trainings(events: list[Event]) -> list[RunFinished]:
    """The ends of runs that trained a model."""
    return [e for e in of(RunFinished, events) if e.data.line == BATCH and e.data.data_set is not None]


async def trainer_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The process that trains for a service, once it has begun."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if found := [c for c in named_children("everloop_models.batch.child", process.pid) if c.nice() > 0]:
                return found[0]
            await asyncio.sleep(0.01)


async def test_a_killed_training_is_done_once_more_with_the_same_bytes_and_its_line_is_compared_with_the_others(
    settings: TrainingSettings, engine: Engine
) -> None:
    outcomes, published = list(stream.outcomes(1_300)), Published(engine, KINDS)
    await engine.publish([loop_state(SPEC), *outcomes[:700]])

    with service(settings) as process:
        child = await trainer_of(process)
        process.kill()  # kill -9, in the middle of the training
        async with asyncio.timeout(WITHIN_S):
            while runs(child):
                await asyncio.sleep(0.05)
    assert not trainings(await published.read())

    with service(settings):
        [end] = await published.until(trainings)
        await engine.publish(outcomes[700:])
        await published.until(lambda events: len(trainings(events)) == 2)
        events = await published.until(lambda events: events if 1_299 in losses(events).get(BATCH, {}) else None)
        assert events is not None

    first, second = trainings(events)
    assert first == end  # the run ended once
    assert (first.data.state, second.data.state) == ("trained", "trained")
    assert first.data.data_set is not None
    assert first.data.data_set.rows == 500
    assert first.data.metrics.keys() >= {"validation_accuracy", "training_log_loss"}
    await _require_same_bytes(first, settings, engine)
    by_line = losses(events)
    seen = sorted(by_line[BATCH])
    assert seen[0] > first.data.offset
    assert seen == list(range(seen[0], 1_300))
    assert mean(by_line[BATCH].values()) < 0.5
    assert {v.data.reason for v in of(ModelTrained, events) if v.data.line == BATCH} == {"trained"}


async def _require_same_bytes(end: RunFinished, settings: TrainingSettings, engine: Engine) -> None:
    """The stored model is the one that its data set gives, here too."""
    from everloop_models.batch.fit import train

    loops, file = KnownLoops(), BytesIO()
    loops.apply(loop_state(SPEC))
    assert end.data.data_set is not None
    assert end.data.artifact is not None
    await DataSets(loops, engine).write(end.data.data_set, RowWriter(file))  # raises where the digest is another
    trained = await asyncio.to_thread(train, SPEC.models[1], SPEC, read_rows(file.getvalue().splitlines()))
    store = ArtifactStore(settings.artifact_url)
    verify(end.data.artifact, store.get(name_in(end.data.artifact.uri)))
    verify(end.data.artifact, trained.data)
