"""What the endpoints answer about a loop: its status in one object, and the evaluation by line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from everloop_monitoring.domain.alert_endings import instead_of
from everloop_monitoring.domain.alerts import OpenAlert
from everloop_monitoring.domain.metric_scores import ERROR_METRICS
from everloop_monitoring.domain.scores import ComparedErrors
from everloop_monitoring.domain.state import EvaluationState
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopState
from everloop_shared.arithmetic import mean


def build_status(
    loop: LoopState, totals: dict[str, int], state: EvaluationState | None, alerts: Sequence[OpenAlert]
) -> dict[str, Any]:
    """The counts of distinct ids, the version that serves, and its scores, which are 0 before the first label.

    `champion.serving` has the instances that cannot load the champion, with what they serve and why.
    """
    data = loop.data
    return {
        "team": data.team,
        "events": totals.get("event", 0),
        "predictions": totals.get("prediction", 0),
        "outcomes": totals.get("outcome", 0),
        "dead_letters": totals.get("dead_letter", 0),
        "champion": {
            "version": data.champion.version,
            "since": data.champion.since.isoformat(),
            "serving": _substitutes(data.champion.version, alerts),
        },
        "rollout": {
            "stage": data.stage,
            "share": data.share,
            "candidate": data.candidate.version if data.candidate else None,
            "approval": data.approval.model_dump(mode="json") if data.approval else None,
        },
        "accuracy": score_by_error(loop, state),
        "metric": {"name": data.spec.metric, **score_by_metric(data.spec, state)},
        "drifts": totals.get("drifts", 0),
        "runs": totals.get("runs", 0),
        "versions": 1 + totals.get("version", 0),
        "promotions": totals.get("promotions", 0),
        "rollbacks": totals.get("rollbacks", 0),
    }


def _substitutes(champion: str, alerts: Sequence[OpenAlert]) -> dict[str, dict[str, str]]:
    for alert in alerts:
        if alert.kind == "artifact" and alert.about.get("version") == champion:
            reason = alert.message.partition(": ")[2]
            return {i: {"version": version, "reason": reason} for i, version in sorted(instead_of(alert).items())}
    return {}


def score_by_error(loop: LoopState, state: EvaluationState | None) -> dict[str, float]:
    """Prequential accuracies of what was served, or for a regression mean absolute errors."""
    return _error_scores(loop.data.spec, state or EvaluationState())


def score_by_metric(spec: LoopSpec, state: EvaluationState | None) -> dict[str, float | None]:
    """Scores by the metric that the spec names; None where it is undefined, such as an F1 without a positive label."""
    state = state or EvaluationState()
    if spec.metric not in ERROR_METRICS:
        return state.measure.scores(spec.metric)
    return {name: score if state.scored else None for name, score in _error_scores(spec, state).items()}


def build_evaluation(loop: LoopState, state: EvaluationState | None, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Scores of what was served beside the baselines by the loop's metric, None where that is undefined, and of each
    line on all its predictions by `line_metric`."""
    spec, known = loop.data.spec, state or EvaluationState()
    is_regression = spec.task == "regression"
    return {
        "loop": loop.loop,
        "metric": spec.metric,
        "outcomes": known.outcomes,
        "scored": known.scored,
        "contradictions": {
            "changed": known.contradictions.changed,
            "disputed": known.contradictions.disputed,
            "over_share": known.contradictions.over_share,
            "rate": known.contradictions.rate,
        },
        **score_by_metric(spec, state),
        "line_metric": "mae" if is_regression else "accuracy",
        "lines": [_describe_line(row, is_regression) for row in lines],
    }


def _error_scores(spec: LoopSpec, state: EvaluationState) -> dict[str, float]:
    is_regression = spec.task == "regression"
    whole = state.sums.scores_over(state.scored, is_regression)
    rolling = state.rolling_scores(is_regression).served
    return {"served": whole.served, "rolling": rolling, "no_change": whole.no_change, "majority": whole.majority}


def _describe_line(row: dict[str, Any], is_regression: bool) -> dict[str, Any]:
    def score(error: float | None) -> float | None:
        return None if error is None else ComparedErrors(served=error).as_scores(is_regression).served

    def score_of_sum(total: str, n: int) -> float | None:
        return score(mean(int(total), n)) if n else None

    return {
        "line": row["line"],
        "version": row["version"],
        "outcomes": row["predicted"],
        "served": row["served"],
        "score": score_of_sum(row["error"], row["predicted"]),
        "score_served": score_of_sum(row["served_error"], row["served"]),
        "rolling": score(row["rolling"]),
        "first": row["first_time"],
        "last": row["last_time"],
    }
