"""What the learner costs per outcome on top of River's own predict and learn; no broker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from river import linear_model, preprocessing
from tests.bench import stream
from tests.bench.figures import Figure
from tests.bench.settings import Settings

from everloop_learning.outcome import Outcome
from everloop_models import ArtifactUnavailable, Model, OnlineModel
from everloop_schemas.training import StoredModel
from everloop_training.worker.learners.dependencies import LearnerDependencies
from everloop_training.worker.learners.learning_line import SavedVersion
from everloop_training.worker.learners.loop_learner import LoopLearner

GOAL_US = 30.0
BATCH = 100


async def measure(settings: Settings) -> list[Figure]:
    """CPU time of this thread; a line of logistic regression, its losses reported every 100 outcomes."""
    outcomes = [Outcome.from_event(event, i) for i, event in enumerate(stream.outcomes(settings.learner_outcomes))]
    ours, bare = list[float](), list[float]()
    for _ in range(settings.runs):
        ours.append(learn_ours(outcomes))
        bare.append(learn_bare(outcomes))
    own = median(o - b for o, b in zip(ours, bare, strict=True))
    return [
        Figure(
            "learner, own cost per outcome on top of River",
            ours=own,
            unit="us",
            goal=f"<= {GOAL_US:g}",
            met=own <= GOAL_US,
            cpu_us=median(ours),
            bare_cpu_us=median(bare),
            note="River: scaler and logistic regression called by hand, without its Pipeline",
            runs=tuple(o - b for o, b in zip(ours, bare, strict=True)),
        )
    ]


def learn_ours(outcomes: Sequence[Outcome]) -> float:
    """Microseconds of CPU per outcome in a learner with one line."""
    learner = LoopLearner(stream.state(), 0, _dependencies())
    learner.live = True
    started = time.thread_time()
    for i, outcome in enumerate(outcomes, 1):
        learner.learn(outcome)
        if i % BATCH == 0:
            learner.take_events()
    return 1e6 * (time.thread_time() - started) / len(outcomes)


def learn_bare(outcomes: Sequence[Outcome]) -> float:
    """Microseconds of CPU per outcome in River alone, by the same calls."""
    scaler: Any
    model: Any
    scaler, model = preprocessing.StandardScaler(), linear_model.LogisticRegression()
    started = time.thread_time()
    for outcome in outcomes:
        model.predict_proba_one(scaler.transform_one(outcome.features))
        scaler.learn_one(outcome.features)
        model.learn_one(scaler.transform_one(outcome.features), outcome.label)
    return 1e6 * (time.thread_time() - started) / len(outcomes)


def _dependencies() -> LearnerDependencies:
    return LearnerDependencies(lambda: stream.START, _store_version, _load_version, _load_model, _copy_version)


def _load_model(stored: StoredModel) -> Model:
    raise ArtifactUnavailable(stored.uri)


def _copy_version(loop: str, version: str, stored: StoredModel) -> SavedVersion:
    raise ArtifactUnavailable(stored.uri)


def _load_version(saved: SavedVersion) -> OnlineModel:
    raise ArtifactUnavailable(saved.uri)


def _store_version(loop: str, version: str, model: OnlineModel) -> SavedVersion:
    return SavedVersion(version, f"memory://{version}", "0" * 64, 1)
