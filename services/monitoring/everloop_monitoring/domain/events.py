"""Builds the events that monitoring publishes."""

from __future__ import annotations

from datetime import datetime

from everloop_monitoring.domain.alert_doing import describe_doing
from everloop_monitoring.domain.alerts import MAX_TEXT_CHARACTERS, Telling
from everloop_monitoring.domain.evaluation import BatchEvaluation, DetectedDrift
from everloop_monitoring.domain.status import score_by_metric
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
from everloop_schemas.registry import LoopState
from everloop_shared.errors import cut


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
            blocks=tuple(new.blocks),
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


def build_alert(telling: Telling, loop: str, state: LoopState | None, time: datetime) -> AlertRaised:
    """The event of an alert that begins, fires, fires still, or is over; the id follows from what led to it."""
    alert, is_over = telling.alert, telling.state == "resolved"
    distinction = (alert.tellings,) if telling.repeats else ()
    return AlertRaised(
        id=derived_id(loop, AlertRaised.type_name(), alert.alert, telling.state, telling.caused_by, *distinction),
        time=time,
        subject=alert.kind,
        loop=loop,
        revision=state.revision if state else 0,
        causationid=telling.caused_by,
        data=AlertRaisedData(
            kind=alert.kind,
            severity=alert.severity,
            message=cut(f"over: {telling.why}", MAX_TEXT_CHARACTERS) if is_over else alert.message,
            alert=alert.alert,
            state=telling.state,
            since=alert.since,
            evidence=alert.evidence,
            cause=alert.cause,
            doing=None if is_over else describe_doing(alert, state),
            runbook=alert.runbook,
        ),
    )
