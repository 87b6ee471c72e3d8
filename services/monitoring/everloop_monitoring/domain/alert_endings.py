"""When the alerts of a loop are over: by an event, by outcomes, or by the passing of time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from everloop_learning.version import line_of
from everloop_monitoring.domain.alert_signals import CORRECTIONS_ALERT, DEAD_LETTER_ALERT, ROLLBACK_ALERT
from everloop_monitoring.domain.alerts import DRIFT_ALERT, RULE_ALERT, AlertBook, OpenAlert
from everloop_monitoring.domain.erasure_alerts import end_erasure
from everloop_monitoring.domain.expectations import expectation_alert
from everloop_monitoring.domain.objectives import targets_of
from everloop_monitoring.domain.state import EvaluationState
from everloop_schemas.envelope import Event
from everloop_schemas.erasure import ErasureConfirmed
from everloop_schemas.monitoring import AlertRaised
from everloop_schemas.registry import LoopResumed, LoopState, ModelPromoted
from everloop_schemas.serving import VersionState
from everloop_schemas.training import ModelTrained, RunFinished, RunRequested

RECOVERED_OUTCOMES = 200
"""Over so many outcomes after a drift the error must be healthy for the drift to be over."""
SETTLED_OUTCOMES = 5_000
"""After so many outcomes without a further drift, the error is what is usual now."""
DEAD_LETTERS_OVER, ROLLBACK_OVER, DATA_DRIFT_OVER = timedelta(hours=1), timedelta(days=1), timedelta(days=1)
SIGNATURES_OVER = timedelta(hours=1)
MAX_INSTANCES = 50


def note_event(book: AlertBook, event: Event) -> None:
    """Note what an event changes in the open alerts of its loop, and end those that it ends."""
    match event:
        case AlertRaised(data=d):
            book.end(d.alert or d.kind, d.message, event.causationid or event.id)
        case RunRequested(data=d):
            for alert in _of_kind(book, "drift"):
                if event.causationid == alert.about.get("drift") or d.trigger == "drift":
                    book.amend(alert.alert, run=d.run, line=d.line)
        case ModelTrained(data=d):
            _end_failed_lines(book, d.line, "restarted", f"{d.line} has a new version, {d.version}", event.id)
        case RunFinished(data=d):
            if d.state == "trained":
                _end_failed_lines(book, None, "ended", f"run {d.run} has trained {d.line}", event.id)
        case ModelPromoted(data=d):
            book.end(ROLLBACK_ALERT, f"{d.version} is champion", event.id)
        case ErasureConfirmed():
            end_erasure(book, event)
        case LoopResumed():
            book.end(ROLLBACK_ALERT, "gate and rollout resumed", event.id)
        case VersionState(data=d):
            _note_version_state(book, event)


def end_by_outcomes(book: AlertBook, state: EvaluationState, loop: LoopState, caused_by: str) -> None:
    """End the drift whose error is healthy again, and the corrections that have become rare."""
    if not state.contradictions.alert_raised:
        book.end(CORRECTIONS_ALERT, f"{state.contradictions.rate:.1%} of the latest labels are contradicted", caused_by)
    champion = loop.data.champion.version
    for alert in _of_kind(book, "drift"):
        if (healthy := alert.about.get("healthy")) is None:
            continue
        errors = [errors.served for offset, errors in state.recent if offset > alert.about["offset"]]
        if not errors:
            continue
        latest = errors[-RECOVERED_OUTCOMES:]
        mean = sum(latest) / len(latest)
        why = f"{champion} serves, with an error of {mean:.3g} over the last {len(latest)} outcomes"
        if len(latest) == RECOVERED_OUTCOMES and mean <= healthy:
            book.end(alert.alert, why, caused_by)
        elif state.recent[-1][0] - alert.about["offset"] >= SETTLED_OUTCOMES:
            book.end(alert.alert, f"no further drift in {SETTLED_OUTCOMES:,} outcomes; {why}", caused_by)


def end_by_time(book: AlertBook, loop: LoopState | None, now: datetime) -> None:
    """End what time, or the loop's state, has ended: dead letters that stopped, and versions that are not in use."""
    for alert in list(book.open.values()):
        if why := _why_over(alert, loop, now):
            book.end(alert.alert, why, alert.caused_by)


def find_recoveries(book: AlertBook, within_s: float, now: datetime) -> list[datetime]:
    """When the drifts of the served error began that have ended now, or are late; each is found once."""
    found = []
    for telling in book.tellings:
        alert = telling.alert
        if telling.state == "resolved" and alert.alert == DRIFT_ALERT and not alert.about.get("late"):
            found.append(alert.since)
    drift = book.open.get(DRIFT_ALERT)
    if drift is not None and not drift.about.get("late") and (now - drift.since).total_seconds() > within_s:
        book.amend(DRIFT_ALERT, late=True)
        found.append(drift.since)
    return found


def fire_due_rules(book: AlertBook, loop: LoopState, now: datetime) -> None:
    """Fire the pending alerts of rules whose condition has held for as long as the loop's file says."""
    for rule in loop.data.spec.alerts:
        alert = book.open.get(f"{RULE_ALERT}{rule.alert}")
        if alert is None or alert.state == "firing" or rule.seconds is None:
            continue
        if (now - alert.since).total_seconds() >= rule.seconds:
            book.fire(alert.alert)


def _why_over(alert: OpenAlert, loop: LoopState | None, now: datetime) -> str | None:
    quiet = now - alert.last
    if alert.alert == DEAD_LETTER_ALERT and quiet >= DEAD_LETTERS_OVER:
        return f"{alert.count} in all, none in the last hour"
    if alert.kind == "signature" and quiet >= SIGNATURES_OVER:
        return f"{alert.count} refused in all, none in the last hour"
    if alert.alert == ROLLBACK_ALERT and quiet >= ROLLBACK_OVER:
        return "the version before it has served for a day"
    if loop is None:
        return None
    if alert.kind == "drift" and alert.about.get("healthy") is None:
        line = line_of(loop.data.champion.version)
        if line != line_of(str(alert.about.get("version"))):
            return f"line {line} serves, which was made after it"
        return "no further drift in a day" if quiet >= DATA_DRIFT_OVER else None
    if alert.kind == "objective" and not targets_of(loop.data.spec):
        return "the loop's file has no objective any more"
    if alert.kind == "rule":
        rules = {f"{RULE_ALERT}{rule.alert}" for rule in loop.data.spec.alerts}
        return None if alert.alert in rules else "the loop's file has no such rule any more"
    if alert.kind == "expectation":
        expected = {expectation_alert(one) for one in loop.data.spec.expect}
        return None if alert.alert in expected else "the loop's spec does not expect it any more"
    if alert.kind == "fairness" and alert.alert not in loop.data.spec.gate.require:
        return "the gate does not require it any more"
    if alert.kind == "artifact":
        used = {live.version for live in (loop.data.champion, loop.data.candidate) if live}
        version = str(alert.about.get("version"))
        return None if version in used or quiet < timedelta(minutes=1) else f"{version} is not in use any more"
    return None


def instead_of(alert: OpenAlert) -> dict[str, str]:
    """What each instance serves that cannot load the version of an alert about its artifact."""
    about = alert.about
    last = {str(about.get("instance")): str(about.get("serving") or "")}
    failing = about.get("failing") or {}  # a list of instances in alerts from before it said what they serve
    known = failing if isinstance(failing, dict) else dict.fromkeys(map(str, failing), next(iter(last.values())))
    return {**last, **known}


def _note_version_state(book: AlertBook, event: VersionState) -> None:
    name, d = f"artifact.{event.data.version}", event.data
    alert = book.open.get(name)
    if alert is None:
        return
    failing = instead_of(alert)
    if d.state == "failed":
        failing = dict(sorted((failing | {d.instance: d.serving or ""}).items())[:MAX_INSTANCES])
        book.amend(name, failing=failing)
    elif d.state == "ready":
        failing.pop(d.instance, None)
        if failing:
            instance, serving = next(iter(failing.items()))
            book.amend(name, failing=failing, instance=instance, serving=serving)
        else:
            book.end(name, f"{d.version} is ready on {d.instance}", event.id)


def _end_failed_lines(book: AlertBook, line: str | None, state: str, why: str, caused_by: str) -> None:
    for alert in _of_kind(book, "line_failed"):
        if alert.about.get("state") == state and line in (None, alert.about.get("line")):
            book.end(alert.alert, why, caused_by)


def _of_kind(book: AlertBook, kind: str) -> Sequence[OpenAlert]:
    return [alert for alert in book.open.values() if alert.kind == kind]
