"""Stream scoring in serving, against bare aiokafka, River, aiokafka."""

from __future__ import annotations

import pickle
from functools import partial

from river import linear_model, preprocessing
from tests.bench import stream
from tests.bench.bus import topics
from tests.bench.figures import Figure, Sample, against
from tests.bench.settings import Settings
from tests.bench.subject import drained, program, service

from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import PredictionMade

GOAL = 0.6
TOPICS = (FeaturesComputed.topic, PredictionMade.topic, LoopState.topic)


async def measure(settings: Settings) -> list[Figure]:
    """Both read a vector, ask the same logistic regression and write a prediction."""
    ours, bare = list[Sample](), list[Sample]()
    for run in range(settings.runs):
        ours += await _ours(settings, f"serving{run}.")
        bare += await _bare(settings, f"river{run}.")
    return [against("serving, stream scoring / aiokafka, River, aiokafka", ours, bare, GOAL)]


async def _ours(settings: Settings, prefix: str) -> list[Sample]:
    folder = settings.folder / prefix
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        await bus.put(stream.state(champion=stream.champion(folder)))
        await bus.fill(FeaturesComputed.topic, stream.vectors(settings.serving_events))
        async with service("serving", settings.bootstrap, prefix, folder) as subject:
            return await drained(subject, partial(bus.count, PredictionMade.topic), settings.serving_events)


async def _bare(settings: Settings, prefix: str) -> list[Sample]:
    folder, names = settings.folder / prefix, [prefix + FeaturesComputed.topic.name, prefix + PredictionMade.topic.name]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").write_bytes(pickle.dumps(pipeline()))
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        await bus.fill(FeaturesComputed.topic, stream.vectors(settings.serving_events))
        command = ["tests.bench.bare_kafka", "river", settings.bootstrap, prefix, *names, str(folder / "model")]
        async with program(command, folder / "log", {}) as subject:
            return await drained(subject, partial(bus.count, PredictionMade.topic), settings.serving_events)


def pipeline() -> object:
    """The bare River pipeline after some outcomes."""
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    for outcome in stream.outcomes(1_000):
        model.learn_one(outcome.data.features, outcome.data.label)
    return model
