"""What training publishes: runs, trained versions, and the losses of the lines that challenge each other."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from everloop_schemas.envelope import FOREVER, ControlData, ControlEvent, SignedEvent, Topic
from everloop_schemas.loop_parts import ModelSpec

Trigger = Literal[
    "initial", "drift", "feedback", "labels", "schedule", "metric", "manual", "outcomes", "submitted", "search"
]
"""What requests a run.

`outcomes` is the number of outcomes after which a batch line is trained again, `search` a search that found a better
model.
"""


VersionReason = Literal["initial", "refresh", "gate", "trained", "submitted"]

_NAME = re.compile(r"([^@#\s]+)@([0-9]{1,18})\.\.([0-9]{1,18})#([0-9]{1,18})")


class DataSet(ControlData):
    """The outcomes that a model is trained on, from offset `start` up to and including `end`.

    `digest` is the sha256 of its rows, `rows` their number; both are absent until it has been read.
    """

    loop: str
    start: int
    end: int
    revision: int
    digest: str | None = None
    rows: int | None = None

    @property
    def name(self) -> str:
        """`loop@start..end#revision`."""
        return f"{self.loop}@{self.start}..{self.end}#{self.revision}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """The data set with this name; raises ValueError where it is none."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise ValueError(f"{name[:200]!r} is no name of a data set; write LOOP@START..END#REVISION")
        loop, start, end, revision = found.groups()
        return cls(loop=loop, start=int(start), end=int(end), revision=int(revision))


class StoredModel(ControlData):
    """An artifact in the store, with what a reader has to know to load it.

    `seal` is the signature over its name in the store and its sha256 (see `everloop_models.seals`), by who stored it;
    `signature` is the sorted names of its features.
    """

    uri: str
    sha256: str
    size: int
    format: str
    signature: tuple[str, ...] = ()
    seal: str | None = None


class RunRequestedData(ControlData):
    """Why a line is started. `key` makes the same cause the same run; offsets are of the loop's outcome log.

    The line learns from `start_offset`; it is judged on outcomes after `requested_offset` only.

    `data_set` asks for a model that is trained on it: by training itself for a batch line, by a trainer elsewhere for
    a line with `trainer`. `artifact` is the model of a line that was submitted, and learns nothing.
    """

    run: str
    key: str
    trigger: Trigger
    reason: str
    line: str
    model: ModelSpec
    start_offset: int
    requested_offset: int
    data_set: DataSet | None = None
    artifact: StoredModel | None = None


class RunRequested(ControlEvent):
    """A training run begins; `correlationid` is the run's id, `causationid` the alert or outcome behind it.

    `actor` is who gave the command, for a `manual` run, or for the search that led to it; absent for others and in
    records from before it was recorded. `team` is that of who requested the run, whose quota counts it. `actor_kind`
    and `actor_source` say how the actor is known, as in decisions.
    """

    topic: ClassVar[Topic] = Topic("training.run_requested.v1", owner="training", keyed_by="loop", retention_ms=FOREVER)
    type: Literal["training.run_requested.v1"] = "training.run_requested.v1"
    begins_trace: ClassVar[bool] = True
    source: str = "everloop/training"
    actor: str | None = None
    team: str | None = None
    actor_kind: str | None = None
    actor_source: str | None = None
    data: RunRequestedData

    def span_attributes(self) -> dict[str, Any]:
        """The run, and what has triggered it."""
        return {"everloop.run": self.data.run, "everloop.trigger": self.data.trigger}


class RunFinishedData(ControlData):
    """How a run ended: its line is `trained` (caught up with the log, and challenging) or `failed`.

    Where the run trained a model on a data set, the line predicts with `artifact` the outcomes after `offset`;
    `metrics` are those that its trainer reports, `seconds` is how long it took, `trainer` who trained it. The end of a
    submitted model's run names its `version`, with the `importance` of each feature on the outcomes that it predicted,
    as in ModelTrained: it came without one.
    """

    run: str
    line: str
    state: Literal["trained", "failed"]
    offset: int
    outcomes: int
    reason: str | None = None
    artifact: StoredModel | None = None
    data_set: DataSet | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    seconds: float | None = None
    trainer: str | None = None
    version: str | None = None
    importance: dict[str, float] | None = None


class RunFinished(ControlEvent):
    """A training run has brought its line up to the log."""

    topic: ClassVar[Topic] = Topic("training.run_finished.v1", owner="training", keyed_by="loop", retention_ms=FOREVER)
    type: Literal["training.run_finished.v1"] = "training.run_finished.v1"
    source: str = "everloop/training"
    data: RunFinishedData


class LineFailedData(ControlData):
    """A line broke on an outcome: it could not predict it, or not learn it.

    `restarted`: it learns again from its last good version, or from the log, without the outcomes at `skipped`.
    `ended`: it is out for good; what it had brought into service goes on serving.
    """

    line: str
    run: str
    state: Literal["restarted", "ended"]
    offset: int
    reason: str
    skipped: tuple[int, ...] = ()


class LineFailed(ControlEvent):
    """A line could not go on as it was; `subject` is the line."""

    topic: ClassVar[Topic] = Topic("training.line_failed.v1", owner="training", keyed_by="loop", retention_ms=FOREVER)
    type: Literal["training.line_failed.v1"] = "training.line_failed.v1"
    source: str = "everloop/training"
    data: LineFailedData


class Manifest(ControlData):
    """All that is needed to build the same version again: the offsets but for those at `skipped`, in order.

    `format` is the model format, which says how the artifact is loaded. `inputs` and `outputs` are those of an ONNX
    model by name, `opset` is its version of the operators; `data_set`, `metrics` and `trainer` are as in RunFinished.
    """

    loop_revision: int
    model: ModelSpec
    topic: str
    partition: int
    start_offset: int
    end_offset: int
    outcomes: int
    seed: int
    libraries: dict[str, str]
    skipped: tuple[int, ...] = ()
    format: str = "river"
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    opset: int | None = None
    data_set: DataSet | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    trainer: str | None = None


class ModelTrainedData(ControlData):
    """A version: a line at an offset, with its artifact. `signature` is the sorted names of the features seen.

    `seal` is as in StoredModel.

    `reason`: `trained`, a batch line has a new model; `submitted`, a model came in that was trained elsewhere. These
    two challenge, and are not offered to serving.
    """

    version: str
    line: str
    offset: int
    run: str
    reason: VersionReason
    uri: str
    sha256: str
    size: int
    signature: tuple[str, ...]
    manifest: Manifest
    importance: dict[str, float] | None = None
    """By feature, how much the model's predictions depend on it; they sum to 1."""
    seal: str | None = None


class ModelTrained(SignedEvent):
    """A version exists; `subject` is its name."""

    topic: ClassVar[Topic] = Topic("training.model_trained.v1", owner="training", keyed_by="loop", retention_ms=FOREVER)
    signed_for: ClassVar[Literal["artifacts", "decisions"]] = "artifacts"
    type: Literal["training.model_trained.v1"] = "training.model_trained.v1"
    source: str = "everloop/training"
    data: ModelTrainedData

    def span_attributes(self) -> dict[str, Any]:
        """The version, its run, and why it exists."""
        found = {"everloop.version": self.data.version, "everloop.reason": self.data.reason}
        return found | {"everloop.run": self.data.run}


class Line(ControlData):
    """One learner with its whole history: which model, since which offset, from which run."""

    line: str
    model: ModelSpec
    run: str
    start_offset: int
    requested_offset: int


class Measured(ControlData):
    """A measure of a line over its latest `outcomes`, with an interval of 95 %; None where it is undefined."""

    value: float | None = None
    outcomes: int
    low: float | None = None
    high: float | None = None


class RankedBlock(ControlData):
    """Losses by a metric of ranks, in [0, 1], of the lines that predicted all of some `outcomes` in a row.

    They are those from offset `start` to `end` of the outcome log. A line has one loss for each comparison in the
    block; no two comparisons are of the same outcomes, and they are the same for all lines.
    """

    start: int
    end: int
    outcomes: int
    losses: dict[str, tuple[float, ...]]


class ChallengeUpdatedData(ControlData):
    """Prequential losses, each in [0, 1], of every line on the outcomes at `offsets` (ascending).

    `losses[line][i]` belongs to `offsets[i]`; None where the line was not there yet. Line `0` is the baseline.
    `measures` has, by line, what the spec's `gate.require` names. `blocks` are those that end at one of `offsets`,
    where the spec's metric is one of ranks.
    """

    offsets: tuple[int, ...]
    losses: dict[str, tuple[float | None, ...]]
    lines: tuple[Line, ...]
    measures: dict[str, dict[str, Measured]] = Field(default_factory=dict)
    blocks: tuple[RankedBlock, ...] = ()


class ChallengeUpdated(ControlEvent):
    """How the lines did on the same outcomes, each predicted before it was learned."""

    topic: ClassVar[Topic] = Topic(
        "training.challenge_updated.v1", owner="training", keyed_by="loop", retention_ms=FOREVER
    )
    type: Literal["training.challenge_updated.v1"] = "training.challenge_updated.v1"
    source: str = "everloop/training"
    data: ChallengeUpdatedData
