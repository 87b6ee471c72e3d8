"""Which records of a loop's outcome log are learned: the first label that counts of each prediction, once."""

from __future__ import annotations

from collections.abc import Iterable

from everloop_learning.first_labels import FirstLabels
from everloop_learning.outcome import Outcome
from everloop_learning.repeats import RepeatedRecords


class LearnableOutcomes:
    """Admits the records of the outcome log in their order, so that every follower of the log learns the same."""

    def __init__(self) -> None:
        self._repeats, self._first_labels = RepeatedRecords(), FirstLabels()

    def admit(self, outcome: Outcome) -> Outcome | None:
        """The next record, `learnable` where it is to be learned; None for one that was published before."""
        return self._first_labels.mark(outcome) if self._repeats.remember(outcome) else None

    def admit_again(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Records of history, as they were admitted before."""
        repeated = self._repeats.offsets
        return [self._first_labels.mark_again(outcome) for outcome in outcomes if outcome.offset not in repeated]
