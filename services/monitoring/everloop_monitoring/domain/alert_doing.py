"""What Everloop is doing about an alert, by the state of its loop."""

from __future__ import annotations

from everloop_learning.version import line_of
from everloop_monitoring.domain.alerts import DRIFT_ALERT, OpenAlert
from everloop_schemas.registry import LoopState


def describe_doing(alert: OpenAlert, loop: LoopState | None) -> str:
    """In one sentence, what happens now without a person; it says so where nothing does."""
    if loop is None:
        return "the record is kept as a dead letter" if alert.kind in ("dead_letter", "signature") else "nothing"
    data = loop.data
    if said := alert.about.get("doing"):
        return str(said)
    if data.pinned and alert.kind in ("drift", "rollback", "quality"):
        return f"nothing: the loop is pinned to {data.champion.version} until everloop resume {loop.loop}"
    match alert.kind:
        case "drift":
            return _describe_drift(alert, loop)
        case "rollback":
            return f"{data.champion.version} serves; the lines go on learning, and the gate compares them"
        case "corrections":
            return "feedback of one source counts within its share; a label replaces it, and scores are counted again"
        case "dead_letter":
            return "the records are kept for 30 days with their bytes and the reason; all others are processed"
        case "line_failed":
            return _describe_failed_line(alert, loop)
        case "artifact":
            serving = alert.about.get("serving") or data.champion.version
            return f"{serving} answers on that instance, which tries {alert.about.get('version')} again"
        case "erasure":
            return "feature tries again until the key is destroyed; no other person is affected"
        case "signature":
            return f"the record is kept as a dead letter and was not acted on; {data.champion.version} serves"
        case "fairness":
            return _describe_rollout(loop) or "it serves on; the gate passes only challengers that meet the requirement"
        case "quality" | "rule":
            return _describe_rollout(loop) or "the lines go on learning, and the gate compares them with the champion"
        case "objective":
            return _describe_rollout(loop) or "records wait in Kafka and nothing is lost"
        case _:
            return "it is counted; predictions go on"


def _describe_drift(alert: OpenAlert, loop: LoopState) -> str:
    run, line = alert.about.get("run"), alert.about.get("line")
    if rollout := _describe_rollout(loop):
        return rollout
    if run:
        if line_of(loop.data.champion.version) == line:
            return f"{loop.data.champion.version}, of run {run} for this drift, is champion; its error is watched"
        return f"run {run} trains line {line}, which the gate compares with the champion"
    retrain = loop.data.spec.retrain
    if not (retrain.on_drift if alert.alert == DRIFT_ALERT else retrain.on_data_drift):
        return "nothing: the loop's file does not ask for a run after it; the champion's line goes on learning"
    return "training is asked for a fresh line from the change point; the champion's line goes on learning"


def _describe_failed_line(alert: OpenAlert, loop: LoopState) -> str:
    line = alert.about.get("line")
    if alert.about.get("state") == "restarted":
        return f"{line} learns again without that outcome"
    serves = line_of(loop.data.champion.version) == line
    return f"its version {loop.data.champion.version} goes on serving, but learns no more" if serves else "nothing"


def _describe_rollout(loop: LoopState) -> str | None:
    data = loop.data
    if data.candidate is None:
        return None
    waits = f", and waits for {data.approval.approvals} approvals" if data.approval else ""
    return f"{data.candidate.version} is in rollout: {data.stage} at {data.share:.0%}{waits}"
