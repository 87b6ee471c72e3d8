"""Everloop's own training runs, as they are shown to MLflow's clients: parameters, metrics by step, tags, data sets."""

from __future__ import annotations

from pydantic import BaseModel

from everloop_registry.domain.tracking import TAG_PREFIX, experiment_id, to_millis
from everloop_schemas.envelope import Event
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.tracking import DataSetInput, Metric, RunChange
from everloop_schemas.training import DataSet, ModelTrainedData, RunFinished, RunRequested

TRAINING_USER = "everloop/training"
"""The user of Everloop's own runs."""
REQUESTED = "requested_offset"
"""A parameter that is known from the request of a run only."""
LINE, TRIGGER, REVISION, ASKER, CAUSE = (
    f"{TAG_PREFIX}{name}" for name in ("line", "trigger", "revision", "requested_by", "causationid")
)
"""Tags that say how a run came to be; nobody else can write tags that begin like these."""
MEAN_LOSS, ACCURACY, COUNT = "prequential_loss", "prequential_accuracy", "prequential_outcomes"
"""Of a line's predictions, each made before its outcome was known; the step is the outcome's offset."""
LOG_EVERY, LOG_GROWTH = 100, 1.01
"""Losses are logged after so many outcomes, later after a hundredth more: a run gets some hundred values."""
NOT_READ = "not computed"
"""The digest of a data set that was learned outcome by outcome."""


class LineScore(BaseModel):
    """The losses of a line so far: their number and sum, up to an offset, and after how many they are logged next."""

    run: str
    outcomes: int = 0
    total: float = 0.0
    offset: int = -1
    next_log: int = LOG_EVERY

    def add(self, offset: int, loss: float) -> None:
        """Count the loss of an outcome once."""
        if offset > self.offset:
            self.offset, self.outcomes, self.total = offset, self.outcomes + 1, self.total + loss

    def take_due(self, time_ms: int, *, is_error_rate: bool) -> tuple[Metric, ...]:
        """The metrics so far, where they are to be logged."""
        if self.outcomes < self.next_log:
            return ()
        self.next_log = max(self.outcomes + LOG_EVERY, int(self.outcomes * LOG_GROWTH))
        mean = self.total / self.outcomes
        values = {MEAN_LOSS: mean, COUNT: float(self.outcomes)} | ({ACCURACY: 1 - mean} if is_error_rate else {})
        return tuple(Metric(key=k, value=v, step=self.offset, time_ms=time_ms) for k, v in values.items())


def requested_run(event: RunRequested) -> RunChange:
    """The run that begins."""
    data = event.data
    tags = {"reason": data.reason, "kind": data.model.kind}
    known = {LINE: data.line, TRIGGER: data.trigger, REVISION: str(event.revision)}
    asked = {ASKER: event.actor} if event.actor else {}
    caused = {CAUSE: event.causationid} if event.causationid else {}
    return RunChange(
        id=data.run,
        experiment=experiment_id(event.loop),
        name=data.line,
        user=TRAINING_USER,
        status="RUNNING",
        started_ms=to_millis(event.time),
        parameters={
            **model_parameters(data.model),
            "trigger": data.trigger,
            "start_offset": str(data.start_offset),
            REQUESTED: str(data.requested_offset),
        },
        tags={
            **{f"{TAG_PREFIX}{key}": value for key, value in tags.items()},
            **known,
            **asked,
            **caused,
            "mlflow.runName": data.line,
        },
        inputs=(data_set_input(data.data_set),) if data.data_set else (),
    )


def finished_run(event: RunFinished, *, is_own: bool) -> RunChange:
    """How the run ended; of a run that is not Everloop's own only what was measured."""
    data, now = event.data, to_millis(event.time)
    seconds = {} if data.seconds is None else {"seconds": data.seconds}
    measured = {"outcomes": float(data.outcomes), **seconds, **data.metrics}
    metrics = (Metric(key=k[:250], value=v, step=max(data.offset, 0), time_ms=now) for k, v in measured.items())
    tags = {"state": data.state, "failure": data.reason, "trainer": data.trainer}
    end = {"status": "FINISHED" if data.state == "trained" else "FAILED", "ended_ms": now} if is_own else {}
    return RunChange.model_validate(
        {
            "id": data.run,
            "experiment": experiment_id(event.loop),
            "metrics": tuple(metrics),
            "tags": {f"{TAG_PREFIX}{key}": value for key, value in tags.items() if value},
            "inputs": (data_set_input(data.data_set),) if data.data_set else (),
            **end,
        }
    )


def registered_run(event: Event, model: ModelTrainedData) -> RunChange:
    """What is known about a run once a version of it is registered."""
    manifest = model.manifest
    learned = DataSet(
        loop=event.loop, start=manifest.start_offset, end=manifest.end_offset, revision=manifest.loop_revision
    )
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(manifest.libraries.items()))
    tags = {"version": model.version, "format": manifest.format, "libraries": libraries, "data_set": learned.name}
    return RunChange(
        id=model.run,
        experiment=experiment_id(event.loop),
        parameters={"seed": str(manifest.seed)},
        tags={f"{TAG_PREFIX}{key}": value for key, value in tags.items() if value},
        inputs=(data_set_input(manifest.data_set or learned),) if model.reason != "refresh" else (),
    )


def model_parameters(model: ModelSpec) -> dict[str, str]:
    """A model of the spec as parameters: what it is, and what it is built with."""
    named = model.model_dump(exclude_none=True, exclude=set(model.parameters), by_alias=True)
    whole = {**{k: v for k, v in named.items() if v is not False}, **model.parameters}
    return {key[:250]: str(value)[:6_000] for key, value in whole.items()}


def data_set_input(data_set: DataSet) -> DataSetInput:
    """A data set that a run read."""
    rows = {} if data_set.rows is None else {"rows": str(data_set.rows)}
    return DataSetInput(
        name=data_set.name,
        digest=data_set.digest or NOT_READ,
        source_type="everloop",
        source=data_set.name,
        tags={"mlflow.data.context": "training", **rows},
    )
