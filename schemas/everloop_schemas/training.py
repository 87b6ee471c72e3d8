"""What training publishes: runs, trained versions, and the losses of the lines that challenge each other."""

from __future__ import annotations

from typing import ClassVar, Literal

from everloop_schemas.envelope import FOREVER, ControlData, ControlEvent, Topic
from everloop_schemas.loop_parts import ModelSpec

Trigger = Literal["initial", "drift", "feedback", "labels", "schedule", "metric", "manual"]


class RunRequestedData(ControlData):
    """Why a line is started. `key` makes the same cause the same run; offsets are of the loop's outcome log.

    The line learns from `start_offset`; it is judged on outcomes after `requested_offset` only.
    """

    run: str
    key: str
    trigger: Trigger
    reason: str
    line: str
    model: ModelSpec
    start_offset: int
    requested_offset: int


class RunRequested(ControlEvent):
    """A training run begins; `correlationid` is the run's id, `causationid` the alert or outcome behind it.

    `actor` is who gave the command, for a `manual` run; absent for others and in records from before it was recorded.
    """

    topic: ClassVar[Topic] = Topic("training.run_requested.v1", owner="training", keyed_by="loop", retention_ms=FOREVER)
    type: Literal["training.run_requested.v1"] = "training.run_requested.v1"
    source: str = "everloop/training"
    actor: str | None = None
    data: RunRequestedData


class RunFinishedData(ControlData):
    """How a run ended: its line is `trained` (caught up with the log, and challenging) or `failed`."""

    run: str
    line: str
    state: Literal["trained", "failed"]
    offset: int
    outcomes: int
    reason: str | None = None


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

    `format` is the model format, which says how the artifact is loaded.
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


class ModelTrainedData(ControlData):
    """A version: a line at an offset, with its artifact. `signature` is the sorted names of the features seen."""

    version: str
    line: str
    offset: int
    run: str
    reason: Literal["initial", "refresh", "gate"]
    uri: str
    sha256: str
    size: int
    signature: tuple[str, ...]
    manifest: Manifest


class ModelTrained(ControlEvent):
    """A version exists; `subject` is its name."""

    topic: ClassVar[Topic] = Topic("training.model_trained.v1", owner="training", keyed_by="loop", retention_ms=FOREVER)
    type: Literal["training.model_trained.v1"] = "training.model_trained.v1"
    source: str = "everloop/training"
    data: ModelTrainedData


class Line(ControlData):
    """One learner with its whole history: which model, since which offset, from which run."""

    line: str
    model: ModelSpec
    run: str
    start_offset: int
    requested_offset: int


class ChallengeUpdatedData(ControlData):
    """Prequential losses, each in [0, 1], of every line on the outcomes at `offsets` (ascending).

    `losses[line][i]` belongs to `offsets[i]`; None where the line was not there yet. Line `0` is the baseline.
    """

    offsets: tuple[int, ...]
    losses: dict[str, tuple[float | None, ...]]
    lines: tuple[Line, ...]


class ChallengeUpdated(ControlEvent):
    """How the lines did on the same outcomes, each predicted before it was learned."""

    topic: ClassVar[Topic] = Topic(
        "training.challenge_updated.v1", owner="training", keyed_by="loop", retention_ms=FOREVER
    )
    type: Literal["training.challenge_updated.v1"] = "training.challenge_updated.v1"
    source: str = "everloop/training"
    data: ChallengeUpdatedData
