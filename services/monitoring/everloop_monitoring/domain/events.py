"""Builds the events that monitoring publishes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from everloop_monitoring.domain.evaluation import BatchEvaluation, DetectedDrift
from everloop_monitoring.domain.status import score_by_metric
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
MAX_MESSAGE_CHARACTERS = 500


def build_scores(evaluation: BatchEvaluation) -> Scores:
    """Whole-log scores and the rolling one, by the loop's metric."""
    spec = evaluation.spec
    found = score_by_metric(spec, evaluation.state)
    undefined = tuple(name for name, score in found.items() if score is None)
    return Scores(metric=spec.metric, **{name: score or 0.0 for name, score in found.items()}, undefined=undefined)


def build_evaluation_event(evaluation: BatchEvaluation, last: OutcomeObserved, time: datetime) -> EvaluationUpdated:
    """The evaluation of the outcomes since the previous event; they count as published.

    The id is derived from both ends, so that when the database is rebuilt with other batches, no id is used again for
    other content.
    """
    new = evaluation.take_unpublished()
    lines = sorted({line for row in new.losses for line in row})
    return EvaluationUpdated(
        id=derived_id(last.loop, EvaluationUpdated.type_name(), new.offsets[0], new.offsets[-1]),
        time=time,
        subject=new.served[-1],
        loop=last.loop,
        revision=last.revision,
        causationid=last.id,
        data=EvaluationUpdatedData(
            offsets=tuple(new.offsets),
            served=tuple(new.served),
            losses={line: tuple(row.get(line) for row in new.losses) for line in lines},
            outcomes=evaluation.state.outcomes,
            scores=build_scores(evaluation),
        ),
    )


def build_drift_event(drift: DetectedDrift, cause: OutcomeObserved, time: datetime) -> DriftDetected:
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


def build_alert(
    loop: str, revision: int, time: datetime, kind: AlertKind, severity: Severity, message: str, cause: str
) -> AlertRaised:
    """An alert, with its message cut to 500 characters. `cause` is the id of the event that raised it; one event
    raises one alert at most."""
    return AlertRaised(
        id=derived_id(loop, AlertRaised.type_name(), cause),
        time=time,
        subject=kind,
        loop=loop,
        revision=revision,
        causationid=cause,
        data=AlertRaisedData(kind=kind, severity=severity, message=message[:MAX_MESSAGE_CHARACTERS]),
    )
