"""What happened to a loop, and why, in words a person reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import DriftDetectedData
from everloop_schemas.registry import (
    Decided,
    GateDecided,
    LoopApplied,
    LoopResumed,
    ModelPromoted,
    ModelRolledBack,
    RolloutChanged,
)
from everloop_schemas.serving import VersionState
from everloop_schemas.training import LineFailed, ModelTrained, RunFinished, RunRequested

Severity = Literal["info", "warning", "critical"]
ALERTS = ("drift", "rollback", "corrections", "dead_letter", "line_failed", "artifact")
"""Kinds of happening that are alerts as well."""


@dataclass(frozen=True)
class Happening:
    """One line of the timeline. `kind` is what is counted; `data` is what a machine may want to know."""

    id: str
    loop: str
    kind: str
    time: datetime
    what: str
    why: str
    data: dict[str, Any] = field(default_factory=dict)


def _of(event: Event, kind: str, what: str, why: str, **data: Any) -> Happening:
    return Happening(event.id, event.loop, kind, event.time, what, why, data)


def decision(event: Decided) -> Happening | None:
    """A decision of the registry; None for those that come too often to be told (registrations, refreshes)."""
    match event:
        case LoopApplied():
            return _of(event, "applied", f"revision {event.revision} applied", "the loop's file")
        case GateDecided(data=d):
            verdict = "passed" if d.passed else "refused"
            return _of(event, "gate", f"{event.subject} {verdict} the gate against {d.champion_line}", d.reason)
        case RolloutChanged(data=d):
            who = f"{d.candidate}: {d.stage} at {d.share:.0%}" if d.candidate else f"rollout {d.stage}"
            return _of(event, "rollout", who, d.reason, stage=d.stage, share=d.share, candidate=d.candidate)
        case ModelPromoted(data=d):
            return _of(event, "promotion", f"{d.version} is champion, after {d.previous}", d.reason)
        case ModelRolledBack(data=d):
            what = f"{d.rolled_back} taken back, {d.version} serves"
            severity = "warning" if d.by == "guardrail" else "info"
            return _of(event, "rollback", what, f"{d.by}: {d.reason}", severity=severity, pinned=d.pinned)
        case LoopResumed(data=d):
            return _of(event, "resumed", "gate and rollout act again", d.reason)
    return None


def run_requested(event: RunRequested) -> Happening:
    """A run began."""
    d = event.data
    return _of(event, "run", f"run {d.trigger}: {d.line} learns from offset {d.start_offset}", d.reason, run=d.run)


def run_finished(event: RunFinished) -> Happening:
    """A run ended."""
    d = event.data
    what = f"{d.line} {d.state} on {d.outcomes} outcomes"
    return _of(event, "run_finished", what, d.reason or "caught up with the log", run=d.run)


def line_failed(event: LineFailed) -> Happening:
    """A line broke on an outcome."""
    d = event.data
    then = (
        "starts again without it" if d.state == "restarted" else "is out for good; what it brought into service stays"
    )
    severity: Severity = "warning" if d.state == "restarted" else "critical"
    return _of(event, "line_failed", f"{d.line} broke at offset {d.offset} and {then}", d.reason, severity=severity)


def not_loaded(event: VersionState) -> Happening | None:
    """An instance of serving cannot load a version; what it can is not told here."""
    d = event.data
    if d.state != "failed":
        return None
    instead = f"; it serves {d.serving}" if d.serving else ""
    what = f"{d.version} cannot be loaded on {d.instance}{instead}"
    return _of(event, "artifact", what, d.reason or "no reason given", severity="critical")


def model_trained(event: ModelTrained) -> Happening | None:
    """A version exists; refreshes come too often to be told."""
    if event.data.reason == "refresh":
        return None
    return _of(event, "trained", f"{event.data.version} trained", event.data.reason, size=event.data.size)


def drift(id: str, loop: str, time: datetime, d: DriftDetectedData) -> Happening:
    """A drift was detected."""
    subject = "" if d.is_served_error_drift else f"{d.kind} of {d.subject}, "
    what = f"drift: {subject}error {d.error_before:.1%} before, {d.error_after:.1%} after offset {d.change_point}"
    why = f"{d.detector} on what {d.version} served, {d.outcomes_since_change} outcomes after the change"
    return Happening(id, loop, "drift", time, what, why, {**d.model_dump(), "severity": "warning"})


def dead_letter_alarm(before: int, after: int) -> tuple[int, Severity] | None:
    """The number of dead letters to raise an alert at, with its severity, if `before` to `after` reaches one.

    At the first and at every further power of ten, so that a flood is told as it grows and not record by record.
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
