"""The rules that need no spec: what is served is worse than a trivial baseline, and labels that have stopped coming."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import sqrt
from typing import NamedTuple

from everloop_monitoring.domain.alerts import AlertBook, Signal
from everloop_monitoring.domain.runbooks import runbook_of
from everloop_monitoring.domain.scores import ROLLING_OUTCOMES, ComparedErrors
from everloop_monitoring.domain.state import EvaluationState
from everloop_schemas.registry import BASELINE, LoopState

WORSE_ALERT, NO_LABELS_ALERT = "quality.worse_than_baseline", "quality.no_labels"
BLOCK_OUTCOMES = 20
"""Errors are correlated: the mean error of a block counts as one observation (batch means, Law and Kelton 2000)."""
WORSE_AT, NOT_WORSE_AT = 4.0, 1.0
"""Standard errors by which what is served is worse: from which the alert begins, and below which it ends."""
HOLDS_OUTCOMES = 200
LABELS_BEFORE, PREDICTIONS_SINCE = 100, 100
MIN_SILENCE, SILENCE_FACTOR = timedelta(hours=6), 3
STORED_EVERY, AWAY = timedelta(minutes=5), timedelta(minutes=10)
"""How often a pause of labels is stored while it lasts; after a longer time without a look, monitoring was away."""


class Worse(NamedTuple):
    """By how many standard errors the served error is above that of a baseline, with both means."""

    baseline: str
    by: float
    served: float
    trivial: float


def compare_with_baselines(recent: list[tuple[int, ComparedErrors]]) -> Worse:
    """The baseline that the served predictions are worst beside, over the latest outcomes."""
    errors = [errors for _, errors in recent]
    served = [one.served for one in errors]
    no_change = _compare("no change", served, [one.no_change for one in errors])
    return max(no_change, _compare("majority", served, [one.majority for one in errors]), key=lambda worse: worse.by)


def _compare(baseline: str, served: list[float], trivial: list[float]) -> Worse:
    blocks = [slice(i, i + BLOCK_OUTCOMES) for i in range(0, len(served), BLOCK_OUTCOMES)]
    means = [(sum(served[block]) - sum(trivial[block])) / len(served[block]) for block in blocks]
    mean = sum(means) / len(means)
    variance = sum((one - mean) ** 2 for one in means) / max(len(means) - 1, 1)
    error = sqrt(variance / len(means))
    by = mean / error if error > 0 else 0.0
    return Worse(baseline, by, sum(served) / len(served), sum(trivial) / len(trivial))


def follow_quality(book: AlertBook, state: EvaluationState, loop: LoopState, caused_by: str, now: datetime) -> None:
    """Raise or end the alert that what is served is worse than no change, or than the majority or the mean.

    It needs evidence over the last 500 outcomes, which has to be there for 200 outcomes. Version 0 is the baseline.
    """
    known = book.open.get(WORSE_ALERT)
    if loop.data.champion.version == BASELINE:
        book.end(WORSE_ALERT, "version 0 serves", caused_by)
        return
    if len(state.recent) < ROLLING_OUTCOMES:
        return
    worse = compare_with_baselines(state.recent)
    if worse.by < NOT_WORSE_AT or (worse.by < WORSE_AT and (known is None or known.state == "pending")):
        book.end(
            WORSE_ALERT, f"the error is {worse.served:.3g}, and {worse.baseline} has {worse.trivial:.3g}", caused_by
        )
    elif known is None or known.state == "pending":
        began = known.about["began"] if known else state.outcomes
        is_pending = state.outcomes - began < HOLDS_OUTCOMES
        if known is None or not is_pending:
            version = loop.data.champion.version
            book.raise_alert(_worse_signal(worse, version, began, caused_by, is_pending), now)


def _worse_signal(worse: Worse, version: str, began: int, caused_by: str, is_pending: bool) -> Signal:
    said = f"the error of what is served is {worse.served:.3g}, and {worse.baseline} has {worse.trivial:.3g}"
    return Signal(
        alert=WORSE_ALERT,
        kind="quality",
        severity="warning",
        message=f"{version} is worse than {worse.baseline}: {said}",
        caused_by=caused_by,
        evidence=(f"{said} over the last {ROLLING_OUTCOMES} outcomes", f"by {worse.by:.1f} standard errors"),
        cause="labels join the wrong predictions, a feature has lost its meaning, or the model never learned",
        runbook=runbook_of("quality"),
        about={"began": began},
        pending=is_pending,
    )


class LabelCounts(NamedTuple):
    """How many predictions and outcomes of a loop are counted."""

    predictions: int
    outcomes: int


@dataclass(frozen=True)
class LabelPace:
    """Since when no label of a loop has come, how many there were then, and how long that took at most before.

    `looked` is when that was stored last: what nobody saw because monitoring was away counts as no pause.
    """

    outcomes: int
    predictions: int
    since: datetime
    looked: datetime
    longest: timedelta = timedelta()

    def until(self, now: datetime) -> LabelPace:
        """The pace without the time in which nobody looked."""
        away = now - self.looked
        return self if away <= AWAY else replace(self, since=self.since + away, looked=now)


def follow_labels(
    book: AlertBook, loop: str, known: LabelPace | None, counts: LabelCounts, now: datetime
) -> LabelPace | None:
    """Raise the alert that predictions are made and labels have stopped coming, or end it; the pace to be stored.

    It is None where what is stored is good enough; to be called more often than `STORED_EVERY`.
    """
    if known is None:
        return LabelPace(counts.outcomes, counts.predictions, now, now)
    pace = known.until(now)
    if counts.outcomes != pace.outcomes:
        book.end(NO_LABELS_ALERT, f"labels come again: {counts.outcomes:,} outcomes", f"{loop}/labels")
        return LabelPace(counts.outcomes, counts.predictions, now, now, max(pace.longest, now - pace.since))
    silent, since = now - pace.since, counts.predictions - pace.predictions
    is_long = silent >= max(MIN_SILENCE, SILENCE_FACTOR * pace.longest)
    is_usual = counts.outcomes < LABELS_BEFORE or since < PREDICTIONS_SINCE or not is_long
    if not is_usual and NO_LABELS_ALERT not in book.open:
        book.raise_alert(_no_labels_signal(loop, silent, since, counts.outcomes), now)
    is_stored = pace is known and now - pace.looked < STORED_EVERY
    return None if is_stored else replace(pace, looked=now)


def _no_labels_signal(loop: str, silent: timedelta, since: int, outcomes: int) -> Signal:
    hours = silent.total_seconds() / 3600
    return Signal(
        alert=NO_LABELS_ALERT,
        kind="quality",
        severity="warning",
        message=f"no label has come for {hours:.0f} hours, and {since:,} predictions were made meanwhile",
        caused_by=f"{loop}/labels/{outcomes}",
        evidence=(f"{outcomes:,} outcomes before", f"{since:,} predictions since"),
        cause="who sends labels has stopped, or sends them under ids that no prediction has",
        runbook=runbook_of("quality"),
    )
