"""What the doors say of a loop: its status in one object, and the evaluation per version."""

from __future__ import annotations

from typing import Any

from everloop_learning.version import line_of
from everloop_monitoring.domain.loop import Work
from everloop_monitoring.domain.measure import DEFAULTS
from everloop_monitoring.domain.scores import Errors
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopState
from everloop_shared.arithmetic import mean


def status(state: LoopState, totals: dict[str, int], work: Work | None) -> dict[str, Any]:
    """The whole-log counts of distinct ids, who serves, and how well. Scores are 0 before the first label."""
    data = state.data
    return {
        "events": totals.get("event", 0),
        "predictions": totals.get("prediction", 0),
        "outcomes": totals.get("outcome", 0),
        "dead_letters": totals.get("dead_letter", 0),
        "champion": {"version": data.champion.version, "since": data.champion.since.isoformat()},
        "rollout": {
            "stage": data.stage,
            "share": data.share,
            "candidate": data.candidate.version if data.candidate else None,
        },
        "accuracy": scores(state, work),
        "metric": {"name": state.data.spec.metric, **metric_scores(state.data.spec, work)},
        "drifts": totals.get("drifts", 0),
        "runs": totals.get("runs", 0),
        "versions": 1 + totals.get("version", 0),
        "promotions": totals.get("promotions", 0),
        "rollbacks": totals.get("rollbacks", 0),
    }


def scores(state: LoopState, work: Work | None) -> dict[str, float]:
    """Accuracies, or for a regression mean absolute errors, prequential over what was served."""
    regression, work = state.data.spec.task == "regression", work or Work()
    whole = work.sums.over(work.scored, regression)
    rolling = work.rolling(regression).served
    return {"served": whole.served, "rolling": rolling, "no_change": whole.no_change, "majority": whole.majority}


def metric_scores(spec: LoopSpec, work: Work | None) -> dict[str, float | None]:
    """Scores by the metric that the spec names; None where it is undefined, such as an F1 without a positive label."""
    work = work or Work()
    if spec.metric not in DEFAULTS:
        return work.measure.scores(spec.metric)
    regression = spec.task == "regression"
    whole, rolling = work.sums.over(work.scored, regression), work.rolling(regression).served
    found = {"served": whole.served, "rolling": rolling, "no_change": whole.no_change, "majority": whole.majority}
    return {name: score if work.scored else None for name, score in found.items()}


def evaluation(state: LoopState, work: Work | None, versions: list[dict[str, Any]]) -> dict[str, Any]:
    """Scores of what was served beside the baselines by the loop's metric, None where that is undefined, and of each
    version on all that it predicted by `version_metric`."""
    regression, known = state.data.spec.task == "regression", work or Work()
    return {
        "loop": state.loop,
        "metric": state.data.spec.metric,
        "outcomes": known.outcomes,
        "scored": known.scored,
        "contradictions": {
            "changed": known.contradictions.changed,
            "disputed": known.contradictions.disputed,
            "unheard": known.contradictions.unheard,
            "rate": known.contradictions.rate,
        },
        **metric_scores(state.data.spec, work),
        "version_metric": "mae" if regression else "accuracy",
        "versions": [_version(row, regression) for row in versions],
    }


def _version(row: dict[str, Any], regression: bool) -> dict[str, Any]:
    def score(error: float | None) -> float | None:
        return None if error is None else Errors(served=error).scores(regression).served

    def of_sum(total: str, n: int) -> float | None:
        return score(mean(int(total), n)) if n else None

    return {
        "version": row["version"],
        "line": line_of(row["version"]),
        "outcomes": row["predicted"],
        "served": row["served"],
        "score": of_sum(row["error"], row["predicted"]),
        "score_served": of_sum(row["served_error"], row["served"]),
        "rolling": score(row["rolling"]),
        "first": row["first_time"],
        "last": row["last_time"],
    }
