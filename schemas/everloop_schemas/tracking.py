"""What the registry publishes of experiments: what was logged about runs and models, and notes on versions."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from everloop_schemas.envelope import FOREVER, ControlData, ControlEvent, Topic

Stage = Literal["active", "deleted"]
RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
ModelStatus = Literal["LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"]
Texts = dict[str, str]


class ExperimentChange(ControlData):
    """What changes about an experiment: the fields that are given. The first change of an experiment creates it."""

    id: str
    name: str | None = None
    stage: Stage | None = None
    artifact_location: str | None = None
    tags: Texts = Field(default_factory=dict)
    deleted_tags: tuple[str, ...] = ()


class Metric(ControlData):
    """A value of a metric at a step; `time_ms` is since the epoch. NaN is `nan`, infinity the largest float.

    `model` is the logged model that it belongs to beside its run; `data_set` and `digest` name what it was measured on.
    """

    key: str
    value: float
    nan: bool = False
    step: int = 0
    time_ms: int
    model: str | None = None
    data_set: str | None = None
    digest: str | None = None


class DataSetInput(ControlData):
    """A data set that a run read; `profile` and `schema` are texts of the client that logged it."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    columns: str | None = None
    profile: str | None = None
    tags: Texts = Field(default_factory=dict)


class ModelLink(ControlData):
    """A logged model that a run read or made."""

    model: str
    direction: Literal["input", "output"]
    step: int = 0


class RunChange(ControlData):
    """What changes about a run: the fields that are given. The first change of a run creates it.

    Parameters, metrics, inputs and links are added, tags set or deleted.
    """

    id: str
    experiment: str
    name: str | None = None
    user: str | None = None
    status: RunStatus | None = None
    stage: Stage | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    parameters: Texts = Field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    tags: Texts = Field(default_factory=dict)
    deleted_tags: tuple[str, ...] = ()
    inputs: tuple[DataSetInput, ...] = ()
    models: tuple[ModelLink, ...] = ()


class LoggedModelChange(ControlData):
    """What changes about a logged model: the fields that are given. The first change of a model creates it."""

    id: str
    experiment: str
    name: str | None = None
    run: str | None = None
    kind: str | None = None
    status: ModelStatus | None = None
    message: str | None = None
    stage: Stage | None = None
    artifact_location: str | None = None
    parameters: Texts = Field(default_factory=dict)
    tags: Texts = Field(default_factory=dict)
    deleted_tags: tuple[str, ...] = ()


class NoteChange(ControlData):
    """What people write about a registered model, or with `number` about one of its versions."""

    number: int | None = None
    description: str | None = None
    tags: Texts = Field(default_factory=dict)
    deleted_tags: tuple[str, ...] = ()


class RunLoggedData(ControlData):
    """What was logged at once; each part is given or absent."""

    experiment: ExperimentChange | None = None
    run: RunChange | None = None
    model: LoggedModelChange | None = None
    note: NoteChange | None = None


class RunLogged(ControlEvent):
    """The `sequence`-th change of the tracking data of `loop`, which is a loop's name, or else an experiment's id.

    The registry's tables of experiments, runs, logged models and notes are the fold of these events. `subject` is the
    experiment, the run, the model or the version that changes; `actor` is who logged it, and
    `actor_kind` and `actor_source` say how that is known, as in decisions.
    """

    topic: ClassVar[Topic] = Topic("registry.run_logged.v1", owner="registry", keyed_by="loop", retention_ms=FOREVER)
    type: Literal["registry.run_logged.v1"] = "registry.run_logged.v1"
    source: str = "everloop/registry"
    actor: str | None = None
    actor_kind: str | None = None
    actor_source: str | None = None
    sequence: int = Field(ge=0)
    data: RunLoggedData
