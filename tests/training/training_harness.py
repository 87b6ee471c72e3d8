"""What the tests of training share: a loop, its outcomes, its states, and the service over a memory broker."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from tests.builders.events import drift_detected, outcome_observed
from tests.builders.loops import NOW, live_version, loop_spec, loop_state
from tests.builders.running import RunningService, run_until_exit

from everloop_learning.outcome import Outcome
from everloop_models import (
    Artifact,
    ArtifactMissing,
    ArtifactUnavailable,
    Model,
    OnlineModel,
    load,
    save,
    verify_and_load,
)
from everloop_models.artifact import verify
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import BASELINE, LoopState
from everloop_schemas.training import ChallengeUpdated, StoredModel
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.adapters.supervisor import StartWorker, WorkerSupervisor
from everloop_training.app import build
from everloop_training.settings import TrainingSettings
from everloop_training.worker.inline import InlineWorker
from everloop_training.worker.learners.dependencies import LearnerDependencies
from everloop_training.worker.learners.learning_line import LearningLine, SavedVersion
from everloop_training.worker.learners.loop_learner import LoopLearner

T = TypeVar("T", bound=Event)
START = NOW
LOGISTIC = {"estimator": "river.linear_model.LogisticRegression", "scale": True}


def spec(**fields: Any) -> LoopSpec:
    schema = {"a": {"type": "number"}, "b": {"type": "number"}}
    return loop_spec(**{"schema": schema, "models": [LOGISTIC], **fields})


def state(sequence: int = 0, champion: str = BASELINE, of: LoopSpec | None = None, **data: Any) -> LoopState:
    candidate = data.pop("candidate", None)
    data["candidate"] = live_version(candidate) if candidate else None
    return loop_state(of or spec(), champion=champion, sequence=sequence, **data)


def label_of(a: float, flipped: bool = False) -> bool:
    return (a > 0.5) != flipped


def event(i: int, loop: str = "market", flipped: bool = False, **parts: Any) -> OutcomeObserved:
    """The i-th outcome: learnable by a straight line in `a`, the same on every call."""
    rng = random.Random(i)
    a, b = rng.random(), rng.random()
    when = START + timedelta(minutes=i)
    label = parts.pop("label", label_of(a, flipped))
    data = {"time": when, "labelled": when, "predicted": when, "features": {"a": a, "b": b}, "prediction": False}
    return outcome_observed(
        f"p{i}", label, **{"id": f"o{i}-{parts.get('correction', 0)}", "loop": loop, **data, **parts}
    )


def outcomes(start: int, stop: int, **parts: Any) -> list[Outcome]:
    return [Outcome.from_event(event(i, **parts), i) for i in range(start, stop)]


def alert(offset: int, change_point: int, ident: str = "alert", kind: str = "concept", **changes: Any) -> DriftDetected:
    return drift_detected(offset, change_point, kind, **{"id": ident, **changes})


@dataclass
class MemoryArtifacts:
    """An artifact store in memory that can be full, or away."""

    full: bool = False
    away: bool = False
    stored: dict[str, bytes] = field(default_factory=dict)

    def store_version(self, loop: str, version: str, model: OnlineModel) -> SavedVersion:
        if self.full:
            raise ArtifactUnavailable("the disk is full")
        artifact = save(model)
        self.stored[version] = artifact.data
        return SavedVersion(version, f"memory://{version}", artifact.sha256, artifact.size)

    def load_version(self, saved: SavedVersion) -> OnlineModel:
        if saved.version not in self.stored:
            raise ArtifactUnavailable("it has been collected")
        return verify_and_load(self.stored[saved.version], saved.sha256)

    def put(self, name: str, data: bytes) -> StoredModel:
        """Store an ONNX file that was trained elsewhere."""
        artifact, self.stored[name] = Artifact.of(data), data
        return StoredModel(
            uri=f"memory://{name}",
            sha256=artifact.sha256,
            size=artifact.size,
            format="onnx",
            signature=load(data, "onnx").signature,
        )

    def load_model(self, stored: StoredModel) -> Model:
        if self.away:
            raise ArtifactUnavailable("the store is away")
        name = stored.uri.removeprefix("memory://")
        if name not in self.stored:
            raise ArtifactMissing("it has been collected")
        verify(stored, self.stored[name])
        return load(self.stored[name], stored.format)

    def copy_version(self, loop: str, version: str, stored: StoredModel) -> SavedVersion:
        if self.full:
            raise ArtifactUnavailable("the disk is full")
        self.stored[version] = self.stored[stored.uri.removeprefix("memory://")]
        return SavedVersion(version, f"memory://{version}", stored.sha256, stored.size, stored.format)


def dependencies(
    artifacts: MemoryArtifacts | None = None, now: Callable[[], datetime] = lambda: START
) -> LearnerDependencies:
    chosen = artifacts or MemoryArtifacts()
    return LearnerDependencies(now, chosen.store_version, chosen.load_version, chosen.load_model, chosen.copy_version)


def make_learner(first: LoopState | None = None, artifacts: MemoryArtifacts | None = None) -> LoopLearner:
    learner = LoopLearner(first or state(), 0, dependencies(artifacts))
    learner.live = True
    return learner


def feed(learner: LoopLearner, start: int, stop: int, **parts: object) -> None:
    """Let a learner learn the outcomes from `start` to before `stop`."""
    for outcome in outcomes(start, stop, **parts):
        learner.learn(outcome)


def model_of(learner: LoopLearner, line: str) -> Any:
    """The model of a line that learns."""
    found = learner.lines.learning[line]
    assert isinstance(found, LearningLine)
    return found.model


def of(kind: type[T], events: Sequence[Event]) -> list[T]:
    return [e for e in events if isinstance(e, kind)]


def losses(events: Sequence[Event]) -> dict[str, dict[int, float]]:
    """Loss by line and offset, the first report of each."""
    found: dict[str, dict[int, float]] = {}
    for e in of(ChallengeUpdated, events):
        for line, values in e.data.losses.items():
            for offset, loss in zip(e.data.offsets, values, strict=True):
                if loss is not None:
                    found.setdefault(line, {}).setdefault(offset, loss)
    return found


class RunningTraining(RunningService):
    """The service on a memory broker."""

    @property
    def supervisor(self) -> Any:
        """Its worker's supervisor."""
        return next(r for r in self.service.resources if isinstance(r, WorkerSupervisor))

    async def wait_until_learned(self, offset: int) -> None:
        """Wait until the losses on the outcome at an offset are reported."""
        await self.until(lambda: any(offset in e.data.offsets for e in self.published(ChallengeUpdated)))


@asynccontextmanager
async def running_training(
    broker: MemoryBroker, data: Path, start_worker: StartWorker = InlineWorker.start, **settings: Any
) -> AsyncIterator[RunningTraining]:
    """The service running until the block ends, then stopped cleanly."""
    chosen = TrainingSettings(data=data, port=0, log_level="WARNING", linger_ms=5, **settings)
    service = build(chosen, broker.engine, start_worker)
    async with run_until_exit(service):
        yield RunningTraining(broker, service)
