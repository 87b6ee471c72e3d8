"""Which record of the outcome log has the label that is learned: the first that counts, whether label or feedback."""

from __future__ import annotations

from hashlib import blake2b

from everloop_learning.feedback_share import FeedbackShare
from everloop_learning.outcome import Outcome

OPEN_PREDICTIONS = 20_000
"""Predictions without a label that counts, for which a later one is still learned: the latest."""
MARKS_REMEMBERED = 100_000
"""Records whose mark differs from their own `first`: the latest, for lines that are rebuilt from history."""


class FirstLabels:
    """Marks the first label that counts of each prediction.

    Feedback beyond its source's share does not count, and neither does feedback without a label: then the label that
    follows is the first.
    """

    def __init__(self) -> None:
        self._feedback_share = FeedbackShare()
        self._open: dict[bytes, None] = {}  # a set that knows its oldest member
        self._marks: dict[int, bool] = {}

    def mark(self, outcome: Outcome) -> Outcome:
        """The next record of the log, with `first` where its label is the one to learn."""
        if outcome.first:
            return self._mark_first_record(outcome)
        if not self._open or outcome.label is None:
            return outcome
        prediction = _digest(outcome)
        if prediction not in self._open or not self._feedback_share.admit(not outcome.feedback, outcome.source):
            return outcome
        del self._open[prediction]
        return self._with_mark(outcome, True)

    def mark_again(self, outcome: Outcome) -> Outcome:
        """A record of history, as `mark` returned it."""
        return outcome._replace(first=self._marks.get(outcome.offset, outcome.first))

    def forget_marks(self) -> None:
        """Forget what `mark_again` needs."""
        self._marks.clear()

    def _mark_first_record(self, outcome: Outcome) -> Outcome:
        if outcome.label is not None and self._feedback_share.admit(not outcome.feedback, outcome.source):
            return outcome
        self._open[_digest(outcome)] = None
        if len(self._open) > OPEN_PREDICTIONS:
            del self._open[next(iter(self._open))]
        return outcome if outcome.label is None else self._with_mark(outcome, False)

    def _with_mark(self, outcome: Outcome, first: bool) -> Outcome:
        self._marks[outcome.offset] = first
        if len(self._marks) > MARKS_REMEMBERED:
            del self._marks[next(iter(self._marks))]
        return outcome._replace(first=first)


def _digest(outcome: Outcome) -> bytes:
    return blake2b(outcome.prediction_id.encode(), digest_size=8).digest()
