"""The events that monitoring publishes, made from what a fold found."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from everloop_monitoring.domain.loop import Drift, Fold
from everloop_monitoring.domain.status import metric_scores
from everloop_monitoring.domain.timeline import Severity
from everloop_schemas.envelope import derived_id
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import (
    AlertRaised,
    AlertRaisedData,
    DriftDetected,
    DriftDetectedData,
    EvaluationUpdated,
    EvaluationUpdatedData,
    Scores,
    drift_id,
)

AlertKind = Literal["drift", "rollback", "corrections", "dead_letter", "line_failed", "artifact"]


def scores(fold: Fold) -> Scores:
    """Whole-log scores beside the rolling one, by the loop's metric."""
    found = metric_scores(fold.spec, fold.work)
    undefined = tuple(name for name, score in found.items() if score is None)
    return Scores(metric=fold.spec.metric, **{name: score or 0.0 for name, score in found.items()}, undefined=undefined)


def evaluation_updated(fold: Fold, last: OutcomeObserved, time: datetime) -> EvaluationUpdated:
    """The evaluation of the outcomes folded since the one before; the fold starts on the next.

    The id says both ends, so that a projection built anew with other batches never reuses an id for other content.
    """
    offsets, served, losses = fold.drain()
    versions = sorted({version for row in losses for version in row})
    return EvaluationUpdated(
        id=derived_id(last.loop, EvaluationUpdated.type_name(), offsets[0], offsets[-1]),
        time=time,
        subject=served[-1],
        loop=last.loop,
        revision=last.revision,
        causationid=last.id,
        data=EvaluationUpdatedData(
            offsets=offsets,
            served=served,
            losses={version: tuple(row.get(version) for row in losses) for version in versions},
            outcomes=fold.work.outcomes,
            scores=scores(fold),
        ),
    )


def drift_detected(drift: Drift, cause: OutcomeObserved, time: datetime) -> DriftDetected:
    """The event of a drift. `cause` is the outcome that raised the alarm."""
    alarm = drift.alarm
    return DriftDetected(
        id=drift_id(cause.loop, drift.kind, drift.subject, alarm.offset),
        time=time,
        subject=drift.version,
        loop=cause.loop,
        revision=cause.revision,
        causationid=cause.id,
        traceparent=cause.traceparent,
        data=DriftDetectedData(
            kind=drift.kind,
            subject=drift.subject,
            detector=alarm.detector,
            offset=alarm.offset,
            change_point=alarm.change_point,
            outcomes=drift.outcomes,
            outcomes_since_change=alarm.since,
            error_before=alarm.error_before,
            error_after=alarm.error_after,
            version=drift.version,
        ),
    )


def alert(
    loop: str, revision: int, time: datetime, kind: AlertKind, severity: Severity, message: str, cause: str
) -> AlertRaised:
    """Something a person may want to know; `cause` is the id of the event that raised it."""
    return AlertRaised(
        id=derived_id(loop, AlertRaised.type_name(), cause),
        time=time,
        subject=kind,
        loop=loop,
        revision=revision,
        causationid=cause,
        data=AlertRaisedData(kind=kind, severity=severity, message=message),
    )
