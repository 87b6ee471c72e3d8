"""Builds the events of one loop's learner; ids follow from causes, so that a replay builds the same events."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from everloop_learning.version import Version
from everloop_models import RANDOM_SEED, library_versions
from everloop_schemas.envelope import Event, derived_id
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.training import (
    DataSet,
    Line,
    LineFailed,
    LineFailedData,
    Manifest,
    ModelTrained,
    ModelTrainedData,
    RunFinished,
    RunFinishedData,
    RunRequested,
    RunRequestedData,
    StoredModel,
    VersionReason,
)
from everloop_shared.tracing import not_sampled
from everloop_training.domain.trained_model import REASON_CHARACTERS
from everloop_training.worker.learners.dependencies import LearnerDependencies
from everloop_training.worker.learners.learning_line import LoopLine, SavedVersion
from everloop_training.worker.learners.predicting_line import LineModel, PredictingLine
from everloop_training.worker.learners.triggers import DueRun

log = logging.getLogger(__name__)


class WeighedVersion(NamedTuple):
    """A version whose features' importance was found after it had been registered."""

    version: str
    importance: dict[str, float]


def run_id(loop: str, key: str, life: int = 1) -> str:
    """The id of the run of a key in one lifetime of a loop."""
    return derived_id(loop, "run", key) if life == 1 else derived_id(loop, "run", life, key)


def requested_line(run: RunRequested) -> Line:
    """The line that a run is about."""
    return Line(**{name: getattr(run.data, name) for name in _FIELDS_OF_A_LINE})


class EventFactory:
    """Builds the events of one loop and holds them in `pending`, in order, until they are taken.

    A snapshot holds neither pending events nor the dependencies; `attach` follows each restore.
    """

    def __init__(self, loop: str, partition: int, dependencies: LearnerDependencies) -> None:
        self.loop, self.partition = loop, partition
        self.attach(dependencies)

    def attach(self, dependencies: LearnerDependencies) -> None:
        """Set the dependencies, with no pending events."""
        self.dependencies = dependencies
        self.pending: list[Event] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"loop": self.loop, "partition": self.partition}

    def build_run_requested(
        self,
        revision: int,
        due: DueRun,
        line: Line,
        caused_by: str | None,
        trace: str | None,
        *,
        data_set: DataSet | None = None,
        artifact: StoredModel | None = None,
    ) -> RunRequested:
        """Build the request of a run, which is not added to `pending`; the same run is the same event."""
        return RunRequested(
            id=derived_id(self.loop, RunRequested.type_name(), line.run),
            time=self.dependencies.now(),
            subject=line.run,
            loop=self.loop,
            revision=revision,
            causationid=caused_by,
            correlationid=line.run,
            traceparent=trace,
            data=RunRequestedData(
                key=due.key,
                trigger=due.trigger,
                reason=due.reason,
                data_set=data_set,
                artifact=artifact,
                **{n: getattr(line, n) for n in _FIELDS_OF_A_LINE},
            ),
        )

    def add_run_finished(
        self, line: LoopLine, failure: str | None = None, weighed: WeighedVersion | None = None
    ) -> None:
        """Add the end of a line's run: the line has come far enough to be compared, or has failed."""
        source = line.source if isinstance(line, PredictingLine) and line.trigger == "submitted" else None
        self.add_run_end(
            line.line, line.revision, line.offset, line.outcomes, failure, line.trace, source, weighed=weighed
        )

    def add_run_end(
        self,
        line: Line,
        revision: int,
        offset: int,
        outcomes: int,
        failure: str | None,
        trace: str | None,
        source: LineModel | None = None,
        *,
        artifact: StoredModel | None = None,
        seconds: float | None = None,
        weighed: WeighedVersion | None = None,
    ) -> RunFinished:
        """Add the end of a run at an offset; `source` tells what is known of its model."""
        if failure:
            log.warning("run failed", extra={"loop": self.loop, "line": line.line, "run": line.run, "reason": failure})
        data = RunFinishedData(
            run=line.run,
            line=line.line,
            state="failed" if failure else "trained",
            offset=offset,
            outcomes=outcomes,
            reason=failure,
            artifact=artifact,
            data_set=source.data_set if source else None,
            metrics=dict(source.metrics) if source else {},
            seconds=seconds,
            trainer=source.trainer if source else None,
            version=weighed.version if weighed else None,
            importance=weighed.importance if weighed else None,
        )
        finished = RunFinished(
            id=derived_id(self.loop, RunFinished.type_name(), line.run),
            time=self.dependencies.now(),
            subject=line.run,
            loop=self.loop,
            revision=revision,
            correlationid=line.run,
            traceparent=trace,
            data=data,
        )
        self.pending.append(finished)
        return finished

    def add_line_failed(
        self, line: Line, revision: int, offset: int, reason: str, trace: str | None, skipped: Sequence[int] = ()
    ) -> None:
        """Add the failure of a line, which restarts without the offsets in `skipped`, or ends where there are none."""
        state: Literal["restarted", "ended"] = "restarted" if skipped else "ended"
        where = {"loop": self.loop, "line": line.line, "offset": offset, "state": state, "reason": reason}
        log.warning("line failed", extra=where)
        data = LineFailedData(
            line=line.line,
            run=line.run,
            state=state,
            offset=offset,
            reason=reason[:REASON_CHARACTERS],
            skipped=tuple(skipped),
        )
        self.pending.append(
            LineFailed(
                id=derived_id(self.loop, LineFailed.type_name(), line.line, offset, state),
                time=self.dependencies.now(),
                subject=line.line,
                loop=self.loop,
                revision=revision,
                correlationid=line.run,
                traceparent=trace,
                data=data,
            )
        )

    def add_model_trained(
        self, line: LoopLine, saved: SavedVersion, reason: VersionReason, importance: dict[str, float] | None
    ) -> None:
        """Add a version of a line that is stored; `importance` is that of its features, where it was found."""
        run, offset = line.reported.run, Version.parse(saved.version).offset
        data = ModelTrainedData(
            version=saved.version,
            line=line.name,
            offset=offset,
            run=run,
            reason=reason,
            uri=saved.uri,
            sha256=saved.sha256,
            size=saved.size,
            signature=line.signature,
            manifest=self._build_manifest(line, offset),
            importance=importance,
            seal=self.dependencies.seal(saved.uri, saved.sha256),
        )
        self.pending.append(
            ModelTrained(
                id=derived_id(self.loop, ModelTrained.type_name(), saved.version, reason),
                time=self.dependencies.now(),
                subject=saved.version,
                loop=self.loop,
                revision=line.revision,
                correlationid=run,
                traceparent=not_sampled(line.trace) if reason == "refresh" else line.trace,
                data=data,
            )
        )

    def _build_manifest(self, line: LoopLine, offset: int) -> Manifest:
        return Manifest(
            loop_revision=line.revision,
            model=line.line.model,
            topic=OutcomeObserved.topic.name,
            partition=self.partition,
            start_offset=line.line.start_offset,
            end_offset=offset,
            outcomes=line.outcomes,
            seed=RANDOM_SEED,
            libraries=library_versions(line.format),
            skipped=tuple(sorted(o for o in line.skipped if o <= offset)),
            format=line.format,
            **line.describe_model(),
        )


_FIELDS_OF_A_LINE = ("run", "line", "model", "start_offset", "requested_offset")
