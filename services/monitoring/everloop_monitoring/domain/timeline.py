"""The timeline of a loop: one entry for each event that a person may want to read about, with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from everloop_schemas.approvals import ApprovalRequested, CandidateApproved
from everloop_schemas.envelope import Event
from everloop_schemas.erasure import ErasureConfirmed, ErasureDecided
from everloop_schemas.monitoring import AlertKind, AlertRaised, DeadLetterSent, DriftDetected
from everloop_schemas.registry import (
    Decided,
    GateDecided,
    LoopApplied,
    LoopResumed,
    ModelPromoted,
    ModelRolledBack,
    RolloutChanged,
)
from everloop_schemas.search import SearchFinished, SearchRequested
from everloop_schemas.serving import VersionState
from everloop_schemas.training import LineFailed, ModelTrained, RunFinished, RunRequested

Severity = Literal["info", "warning", "critical"]
RESOLVED = "resolved"
"""The kind of an entry that says that an alert is over."""
ALERT_KINDS = (*get_args(AlertKind), "data_drift", RESOLVED)
"""Kinds of entries that are about alerts."""
MAX_NAMES = 5
"""Of features that have drifted, and of slices that they drifted in, in one entry."""


@dataclass(frozen=True)
class TimelineEntry:
    """One line of the timeline. `kind` is what is counted, `data` the details for programs."""

    id: str
    loop: str
    kind: str
    time: datetime
    what: str
    why: str
    data: dict[str, Any] = field(default_factory=dict)


def _entry(event: Event, kind: str, what: str, why: str, /, **data: Any) -> TimelineEntry:
    return TimelineEntry(event.id, event.loop, kind, event.time, what, why, data)


def decision_entry(event: Decided) -> TimelineEntry | None:
    """The entry of a registry's decision; None for registrations and refreshes, which are too frequent."""
    match event:
        case LoopApplied():
            return _entry(event, "applied", f"revision {event.revision} applied", "the loop's file")
        case GateDecided(data=d):
            return _entry(event, "gate", f"{event.subject} {_verdict(event)} against {d.champion_line}", d.reason)
        case RolloutChanged(data=d):
            what = f"{d.candidate}: {d.stage} at {d.share:.0%}" if d.candidate else f"rollout {d.stage}"
            return _entry(event, "rollout", what, d.reason, stage=d.stage, share=d.share, candidate=d.candidate)
        case ApprovalRequested(data=d):
            what = f"{d.version} waits for {d.approvals} approvals {d.step.replace('_', ' ')}"
            return _entry(event, "approval", what, d.reason, expires=d.expires.isoformat())
        case CandidateApproved(data=d):
            what = f"{d.version} approved by {event.actor or 'anonymous'}, {d.approved} of {d.approvals}"
            return _entry(event, "approval", what, d.reason, actor=event.actor)
        case ModelPromoted(data=d):
            return _entry(event, "promotion", f"{d.version} is champion, after {d.previous}", d.reason)
        case ModelRolledBack(data=d):
            what = f"{d.rolled_back} rolled back, {d.version} serves"
            severity = "warning" if d.by == "guardrail" else "info"
            return _entry(event, "rollback", what, f"{d.by}: {d.reason}", severity=severity, pinned=d.pinned)
        case ErasureDecided(data=d):
            return _entry(
                event, "erasure", f"an erasure is decided, decision {event.sequence}", d.reason, models=d.models
            )
        case ErasureConfirmed(data=d) if d.decision is not None:
            return _entry(
                event, "forgetting", f"the erasure of decision {d.decision} is done", "the receipt of feature"
            )
        case LoopResumed(data=d):
            return _entry(event, "resumed", "gate and rollout resumed", d.reason)
    return None


def _verdict(event: GateDecided) -> str:
    if event.data.passed:
        return "passed the gate"
    return "is held back" if event.subject == event.data.line else "refused the gate"


def run_requested_entry(event: RunRequested) -> TimelineEntry:
    """The entry of a run that began."""
    d = event.data
    return _entry(event, "run", f"run {d.trigger}: {d.line} learns from offset {d.start_offset}", d.reason, run=d.run)


def run_finished_entry(event: RunFinished) -> TimelineEntry:
    """The entry of a run that ended."""
    d = event.data
    what = f"{d.line} {d.state} on {d.outcomes} outcomes"
    return _entry(event, "run_finished", what, d.reason or "caught up with the log", run=d.run)


def search_requested_entry(event: SearchRequested) -> TimelineEntry:
    """The entry of a search for better parameters that began."""
    d = event.data
    what = f"search for models.{d.index}: {d.trials} trials by {d.metric} on {d.data_set.name}"
    return _entry(event, "search", what, d.reason, search=d.search)


def search_finished_entry(event: SearchFinished) -> TimelineEntry:
    """The entry of a search that ended: what it found, or why it found nothing."""
    d = event.data
    if d.score is None or d.base_score is None:
        what = f"search {d.state} after {d.trials} trials"
    else:
        what = f"search {d.state} after {d.trials} trials: {d.metric} {d.score:.4g}, {d.base_score:.4g} before"
    found = d.model.parameters if d.model and d.state == "improved" else {}
    why = d.reason or ", ".join(f"{name} {value}" for name, value in found.items()) or "no trial was better"
    return _entry(event, "search_finished", what, why, search=d.search, run=d.run)


def line_failed_entry(event: LineFailed) -> TimelineEntry:
    """The entry of a line that failed on an outcome."""
    d = event.data
    then = "restarts without it" if d.state == "restarted" else "has ended; its versions in service stay"
    severity: Severity = "warning" if d.state == "restarted" else "critical"
    return _entry(event, "line_failed", f"{d.line} failed at offset {d.offset} and {then}", d.reason, severity=severity)


def load_failure_entry(event: VersionState) -> TimelineEntry | None:
    """The entry of a version that an instance of serving cannot load; None for other states."""
    d = event.data
    if d.state != "failed":
        return None
    instead = f"; it serves {d.serving}" if d.serving else ""
    what = f"{d.version} cannot be loaded on {d.instance}{instead}"
    return _entry(event, "artifact", what, d.reason or "no reason given", severity="critical")


def model_trained_entry(event: ModelTrained) -> TimelineEntry | None:
    """The entry of a new version; None for a refresh, which is too frequent."""
    if event.data.reason == "refresh":
        return None
    return _entry(event, "trained", f"{event.data.version} trained", event.data.reason, size=event.data.size)


def letter_sent_entry(event: DeadLetterSent) -> TimelineEntry:
    """The entry of a dead letter that was sent again."""
    d = event.data
    how = "repaired and sent again" if d.repaired else "sent again"
    return _entry(event, "letter_sent", f"a dead letter of {d.topic} was {how}", f"by {d.actor}, as {d.event}")


def drift_entry(event: DriftDetected) -> TimelineEntry:
    """The entry of a drift. One that shows before labels has a kind of its own, which is counted apart."""
    d = event.data
    if d.error_before is None or d.error_after is None:
        return _data_drift_entry(event)
    subject = "" if d.is_served_error_drift else f"{d.kind} of {d.subject}, "
    what = f"drift: {subject}error {d.error_before:.1%} before, {d.error_after:.1%} after offset {d.change_point}"
    why = f"{d.detector} on the predictions of {d.version}, {d.outcomes_since_change} outcomes after the change"
    return _entry(event, "drift", what, why, **d.model_dump(), severity="warning")


def _data_drift_entry(event: DriftDetected) -> TimelineEntry:
    d = event.data
    names = [feature.name for feature in d.features[:MAX_NAMES]]
    more = f" and {len(d.features) - MAX_NAMES} more" if len(d.features) > MAX_NAMES else ""
    where = f" in {', '.join(d.slices[:MAX_NAMES])}" if d.slices else ""
    what = f"{d.kind} drift: {', '.join(names)}{more}{where}"
    why = "; ".join(f"{f.name} {f.before} before, {f.after} now" for f in d.features[:MAX_NAMES])
    data = d.model_dump(mode="json")
    return _entry(event, "data_drift", what, why or f"{d.detector} of {d.subject}", **data, severity="warning")


def alert_entry(event: AlertRaised) -> TimelineEntry:
    """The entry of an alert whose cause has no entry of its own, or that is over."""
    d = event.data
    if d.state == "resolved":
        return _entry(event, RESOLVED, f"{d.alert} is over", d.message, severity=d.severity)
    return _entry(event, d.kind, d.message, d.cause or "", severity=d.severity)


def dead_letter_alarm(before: int, after: int) -> tuple[int, Severity] | None:
    """The number of dead letters to raise an alert at, with its severity, if `before` to `after` reaches one.

    At the first and at every further power of ten, so that a flood raises few alerts.
    """
    reached = 0
    step = 1
    while step <= after:
        if step > before:
            reached = step
        step *= 10
    if not reached:
        return None
    return reached, "info" if reached < 10 else "warning" if reached < 1000 else "critical"
