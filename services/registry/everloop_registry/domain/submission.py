"""Models that were trained elsewhere and submitted: what comes with one, and the version that it becomes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, TYPE_CHECKING

from everloop_learning.version import Version
from everloop_registry.domain.decision_log import DecisionLog
from everloop_schemas.envelope import derived_id
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.training import DataSet, Manifest, ModelTrainedData, StoredModel

if TYPE_CHECKING:
    from everloop_models.formats.onnx.interface import GivenInterface
    from everloop_models.intake import CheckedModel

SEED = 0
"""Of a model that was trained elsewhere: nobody here knows it."""


@dataclass(frozen=True)
class SubmittedModel:
    """An ONNX file, in memory or on disk, and what its owner says of it: a name for its line, how it is fed
    (`given`), the metrics and the data set of its training, and the run in which it was made where that has an id.

    `weights` are files beside it, by name, of which it may need some; `parameters` are said of every version of its
    line.
    """

    name: str
    data: bytes | IO[bytes]
    given: GivenInterface
    metrics: dict[str, float] = field(default_factory=dict)
    data_set: DataSet | None = None
    run: str | None = None
    weights: Mapping[str, bytes] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SubmittedVersion:
    """The version that a model has become; `is_new` is False where the same model came under the same name before."""

    model: ModelTrainedData
    is_new: bool


def choose_version(decision_log: DecisionLog, name: str, taken: Collection[str]) -> Version:
    """A version of this name as of the last outcome that is known; its line is none of `taken`."""
    working = decision_log.working
    offset = max(0, decision_log.loop.judged, working.gate.last_offset, working.evaluated_offset)
    line, n = f"{name}-{offset + 1}", 2
    while line in taken or line in working.runs:
        line, n = f"{name}.{n}-{offset + 1}", n + 1
    return Version(line, offset)


def count_recent_submissions(decision_log: DecisionLog, period: timedelta) -> int:
    """How many models were submitted to the loop within a period before now."""
    since = decision_log.context.now - period
    return sum(time > since for time in decision_log.working.submitted)


def describe_version(
    decision_log: DecisionLog,
    version: Version,
    submitted: SubmittedModel,
    checked: CheckedModel,
    stored: StoredModel,
    partition: int,
) -> ModelTrainedData:
    """The version as it is registered: its line learns nothing, and predicts the outcomes after its offset."""
    loop, data_set = decision_log.loop, submitted.data_set
    manifest = Manifest(
        loop_revision=loop.revision,
        model=ModelSpec.model_validate({**submitted.parameters, "trainer": submitted.name}),
        topic=OutcomeObserved.topic.name,
        partition=partition,
        start_offset=data_set.start if data_set else 0,
        end_offset=data_set.end if data_set else version.offset,
        outcomes=(data_set.rows or 0) if data_set else 0,
        seed=SEED,
        libraries=checked.libraries,
        format=stored.format,
        inputs=checked.inputs,
        outputs=checked.outputs,
        opset=checked.opset,
        data_set=data_set,
        metrics=submitted.metrics,
        trainer=submitted.name,
    )
    return ModelTrainedData(
        version=str(version),
        line=version.line,
        offset=version.offset,
        run=submitted.run or derived_id(loop.loop, "run", loop.life, f"submitted/{version}"),
        reason="submitted",
        uri=stored.uri,
        sha256=stored.sha256,
        size=stored.size,
        signature=stored.signature,
        manifest=manifest,
        seal=stored.seal,
    )
