"""Stream scoring in serving, against bare aiokafka, River, aiokafka."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

from river import linear_model, preprocessing
from tests.bench import stream
from tests.bench.bus import topics
from tests.bench.figures import Figure, Sample, against
from tests.bench.settings import Settings
from tests.bench.subject import drained, program, service

from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.registry import LiveVersion, LoopState
from everloop_schemas.serving import PredictionMade

GOAL = 0.6
TOPICS = (FeaturesComputed.topic, PredictionMade.topic, LoopState.topic)


async def measure(settings: Settings) -> list[Figure]:
    """Both read a vector, ask the same logistic regression and write a prediction."""
    ours, bare = list[Sample](), list[Sample]()
    for run in range(settings.runs):
        ours += await ours_drained(settings, f"serving{run}.")
        bare += await bare_drained(settings, f"river{run}.")
    return [against("serving, stream scoring / aiokafka, River, aiokafka", ours, bare, GOAL)]


async def ours_drained(
    settings: Settings, prefix: str, trained: Callable[[Path], LiveVersion] = stream.champion
) -> list[Sample]:
    """Serving reads the vectors and predicts with a champion."""
    folder = settings.folder / prefix
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        await bus.put(stream.state(champion=trained(folder)))
        await bus.fill(FeaturesComputed.topic, stream.vectors(settings.serving_events))
        async with service("serving", settings.bootstrap, prefix, folder) as subject:
            return await drained(subject, partial(bus.count, PredictionMade.topic), settings.serving_events)


async def bare_drained(settings: Settings, prefix: str, onnx: bytes | None = None) -> list[Sample]:
    """The bare loop reads the same vectors and asks the same kind of model."""
    folder, names = settings.folder / prefix, [prefix + FeaturesComputed.topic.name, prefix + PredictionMade.topic.name]
    model = write_model(folder, onnx)
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        await bus.fill(FeaturesComputed.topic, stream.vectors(settings.serving_events))
        command = ["tests.bench.bare_kafka", "river", settings.bootstrap, prefix, *names, model]
        async with program(command, folder / "log", {}) as subject:
            return await drained(subject, partial(bus.count, PredictionMade.topic), settings.serving_events)


def write_model(folder: Path, onnx: bytes | None = None) -> str:
    """Write the model that bare programs load, this one or the bare River pipeline, and return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("model.onnx" if onnx else "model")
    path.write_bytes(onnx or pickle.dumps(pipeline()))
    return str(path)


def pipeline() -> object:
    """The bare River pipeline after some outcomes."""
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    for outcome in stream.outcomes(1_000):
        model.learn_one(outcome.data.features, outcome.data.label)
    return model
