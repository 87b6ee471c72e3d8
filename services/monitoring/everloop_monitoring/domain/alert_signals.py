"""Which alert an event raises: its name, evidence, likely cause and runbook."""

from __future__ import annotations

from everloop_monitoring.domain import timeline
from everloop_monitoring.domain.alerts import DRIFT_ALERT, Signal
from everloop_monitoring.domain.runbooks import runbook_of
from everloop_monitoring.domain.state import EvaluationState
from everloop_monitoring.domain.timeline import Severity, TimelineEntry
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import derived_id
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import SERVED_ERROR, AlertRaised, DriftDetected, DriftKind
from everloop_schemas.registry import ModelRolledBack
from everloop_schemas.serving import VersionState
from everloop_schemas.training import LineFailed

DEAD_LETTER_ALERT, CORRECTIONS_ALERT, ROLLBACK_ALERT = "dead_letter", "corrections", "rollback"
SIGNATURE_REFUSED = "SignatureRefused"
"""The error of the dead letter of a record that must be signed and is not, or not by a trusted key."""
RECOVERED_SHARE = 0.25
"""A drift is over when at most this share of the rise of the error is left."""
MAX_FEATURES = 5


def drift_alert(kind: DriftKind, subject: str) -> str:
    """The name of the alert about a drift."""
    return DRIFT_ALERT if (kind, subject) == ("concept", SERVED_ERROR) else f"drift.{kind}.{subject}"


def signal_of_drift(event: DriftDetected, entry: TimelineEntry, healthy: float | None) -> Signal:
    """A drift: of the served error, over once the error is `healthy`, or of features, predictions or labels."""
    d = event.data
    features = tuple(
        f"{f.name}: {f.detector.replace('_', ' ')} {f.distance:.3g}, p {f.p_value:.2g}; {f.before} -> {f.after}"
        for f in d.features[:MAX_FEATURES]
    )
    if d.error_before is None or d.error_after is None:
        errors: tuple[str, ...] = ()
    else:
        errors = (f"error {d.error_before:.1%} before offset {d.change_point}, {d.error_after:.1%} since",)
    named = ", ".join(f.name for f in d.features[:MAX_FEATURES])
    where = f", in {', '.join(d.slices[:MAX_FEATURES])} and hardly elsewhere" if d.slices else ""
    if d.is_served_error_drift:
        cause = f"what the labels depend on has changed since offset {d.change_point}" + (f": {named}" if named else "")
    else:
        cause = f"the {d.kind} has changed at its source" + (f", most of all {named}" if named else "") + where
    found = f"{d.detector} at offset {d.offset}, {d.outcomes_since_change} outcomes after the change"
    return Signal(
        alert=drift_alert(d.kind, d.subject),
        kind="drift",
        severity="warning",
        message=entry.what,
        caused_by=event.id,
        evidence=(*errors, found, *features, *(f"slice {name}" for name in d.slices[:MAX_FEATURES])),
        cause=cause,
        runbook=runbook_of("drift"),
        about={"drift": event.id, "offset": d.offset, "version": d.version, "healthy": healthy},
        entry=entry,
    )


def healthy_error(event: DriftDetected, state: EvaluationState, is_regression: bool) -> float | None:
    """The mean error at which a drift of the served error counts as over; None for other drifts.

    The errors are those of the latest outcomes, before and after the change point. Where all of them came after it,
    those of the alarm are used, and for a regression, whose alarm has other units, the mean over the whole log.
    """
    d = event.data
    if not d.is_served_error_drift or not state.recent:
        return None
    before = [errors.served for offset, errors in state.recent if offset < d.change_point]
    after = [errors.served for offset, errors in state.recent if offset >= d.change_point]
    worse = sum(after) / len(after) if after else 0.0
    if before:
        usual = sum(before) / len(before)
    elif is_regression:
        usual = state.sums.scores_over(state.scored, True).served
    else:
        usual = d.error_before or 0.0
    return usual + RECOVERED_SHARE * max(worse - usual, 0.0)


def signal_of_rollback(event: ModelRolledBack, entry: TimelineEntry) -> Signal:
    """A guardrail has rolled a version back."""
    d = event.data
    return Signal(
        alert=ROLLBACK_ALERT,
        kind="rollback",
        severity="warning",
        message=f"{d.rolled_back} was rolled back: {d.reason}",
        caused_by=event.id,
        evidence=(d.reason, f"{d.outcomes} outcomes of the loop"),
        cause=f"{d.rolled_back} is worse on what it served than on what it was compared on",
        runbook=runbook_of("rollback"),
        about={"rolled_back": d.rolled_back, "serves": d.version},
        entry=entry,
    )


def signal_of_failed_line(event: LineFailed) -> Signal:
    """A line broke on an outcome."""
    d, entry = event.data, timeline.line_failed_entry(event)
    return Signal(
        alert=f"line_failed.{d.line}",
        kind="line_failed",
        severity="warning" if d.state == "restarted" else "critical",
        message=f"{entry.what}: {entry.why}",
        caused_by=event.id,
        evidence=(f"offset {d.offset}: {d.reason}", f"{len(d.skipped)} outcomes are left out"),
        cause="the model cannot digest the values of that outcome",
        runbook=runbook_of("line_failed"),
        about={"line": d.line, "state": d.state},
        entry=entry,
    )


def signal_of_version_state(event: VersionState) -> Signal | None:
    """A version that an instance cannot load; None for other states."""
    entry = timeline.load_failure_entry(event)
    if entry is None:
        return None
    d = event.data
    return Signal(
        alert=f"artifact.{d.version}",
        kind="artifact",
        severity="critical",
        message=f"{entry.what}: {entry.why}",
        caused_by=event.id,
        evidence=(f"{d.instance}: {entry.why}",),
        cause="the artifact is damaged, cannot be reached, or needs libraries that the instance does not have",
        runbook=runbook_of("artifact"),
        about={"version": d.version, "instance": d.instance, "serving": d.serving},
        entry=entry,
    )


def signal_of_corrections(event: OutcomeObserved, message: str) -> Signal:
    """Labels and feedback contradict earlier ones often."""
    id, data = derived_id(event.loop, AlertRaised.type_name(), event.id), {"severity": "warning"}
    entry = TimelineEntry(id, event.loop, "corrections", event.time, "corrections are frequent", message, data)
    return Signal(
        alert=CORRECTIONS_ALERT,
        kind="corrections",
        severity="warning",
        message=message,
        caused_by=event.id,
        evidence=(message,),
        cause="the source that the message names is wrong, or tells the truth later than it should",
        runbook=runbook_of("corrections"),
        entry=entry,
    )


def signal_of_dead_letters(loop: str, last: DeadLetter, before: int, new: int) -> Signal:
    """`new` dead letters after `before` others of the same alert; the entry says when they reach a power of ten."""
    total = before + new
    reached = timeline.dead_letter_alarm(before, total)
    severity: Severity = "info" if total < 10 else "warning" if total < 1000 else "critical"
    said = f"{last.source}: {last.data.error}: {last.data.reason}"
    count = reached[0] if reached else total
    message = f"{count} dead letters; the last is from {said}"
    entry = None
    if reached:
        data = {"severity": reached[1], "count": count}
        entry = TimelineEntry(last.id, loop, "dead_letter", last.time, f"{count} dead letters", message, data)
    place = f"{last.data.topic} offset {last.data.offset}" if last.data.offset >= 0 else "refused by HTTP"
    return Signal(
        alert=DEAD_LETTER_ALERT,
        kind="dead_letter",
        severity=severity,
        message=message,
        caused_by=last.id,
        evidence=(f"{total} since the alert began", f"{place}: {last.data.error}"),
        cause=f"a producer sends what {last.source.removeprefix('everloop/')} cannot process: {last.data.reason}",
        runbook=runbook_of("dead_letter"),
        entry=entry,
        count=new,
    )


def signal_of_refused_signature(loop: str, event: DeadLetter) -> Signal | None:
    """A record that a service did not believe, as it is not signed by a trusted key; None for other dead letters."""
    d, service = event.data, event.source.removeprefix("everloop/")
    if d.error != SIGNATURE_REFUSED:
        return None
    message = f"{service} refused a record of {d.topic}: {d.reason}"
    where = f"{d.topic}, partition {d.partition}, offset {d.offset}"
    entry = TimelineEntry(
        derived_id(loop, "signature", event.id), loop, "signature", event.time, message, where, {"severity": "critical"}
    )
    return Signal(
        alert=f"signature.{d.topic}",
        kind="signature",
        severity="critical",
        message=message,
        caused_by=event.id,
        evidence=(f"{where}: {d.reason}",),
        cause=f"somebody other than its owner writes to {d.topic}, or the trusted keys lack the owner's key",
        runbook=runbook_of("signature"),
        entry=entry,
    )


def signal_of_alert(event: AlertRaised) -> Signal:
    """An alert that a watch raises itself, as a pending or firing one."""
    d = event.data
    data = {"severity": d.severity}
    return Signal(
        alert=d.alert or d.kind,
        kind=d.kind,
        severity=d.severity,
        message=d.message,
        caused_by=event.causationid or event.id,
        evidence=d.evidence,
        cause=d.cause,
        runbook=d.runbook or runbook_of(d.kind),
        entry=TimelineEntry(event.id, event.loop, d.kind, event.time, d.message, d.cause or "", data),
        about={"doing": d.doing} if d.doing else {},
        pending=d.state == "pending",
    )
