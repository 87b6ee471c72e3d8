"""What a person does about an alert: one line for each kind, and the section of the page that says more."""

from __future__ import annotations

from everloop_schemas.monitoring import AlertKind

PAGE = "shared/docs/runbooks.md"
FIRST_STEPS: dict[AlertKind, str] = {
    "drift": "everloop alerts LOOP shows what Everloop does; act where it stays open for longer than a rollout takes",
    "rollback": "everloop history LOOP shows what the version was worse on; the champion before it serves",
    "corrections": "ask the source that the message names; its feedback is counted within its share only",
    "dead_letter": "everloop letters ls --loop LOOP shows why; repair the producer, then send them: everloop letters",
    "line_failed": "look at the outcome at the offset in the evidence; an ended line needs everloop retrain LOOP",
    "artifact": "check the artifact store and the log of the instance; what serves instead is in the message",
    "signature": "find out who may write to that topic; nothing of the record was used, and the champion is the same",
    "erasure": "see that feature and the store of personal keys are up; the erasure is done as soon as both answer",
    "quality": "everloop status LOOP compares the score with the baselines; check that labels arrive and are right",
    "expectation": "look at the field at its source; what breaks the expectation is counted at /features",
    "fairness": "look at /fairness for the groups and their numbers before the model is changed",
    "objective": "see which service is slow or behind: its lag and latency are in Grafana's dashboard Everloop",
    "rule": "the loop's own rule; its file says what was meant",
}


def runbook_of(kind: AlertKind) -> str:
    """The first step, and where the others are."""
    return f"{FIRST_STEPS[kind]} ({PAGE}#{kind.replace('_', '-')})"
