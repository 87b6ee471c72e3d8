"""Which records of a loop's outcome log are learned: the first label that counts of each prediction, once."""

from __future__ import annotations

from collections.abc import Iterable

from everloop_learning.first_labels import FirstLabels
from everloop_learning.outcome import Outcome
from everloop_learning.repeats import RepeatedRecords
from everloop_schemas.envelope import Scalar


def learned_label(outcome: Outcome, regression: bool) -> Scalar | None:
    """The label of an admitted outcome that counts; None where there is none, or text in a regression."""
    if not outcome.counts or (regression and isinstance(outcome.label, str)):
        return None
    return outcome.label


class LearnableOutcomes:
    """Admits the records of the outcome log in their order, so that every follower of the log learns the same."""

    def __init__(self) -> None:
        self._repeats, self._first_labels = RepeatedRecords(), FirstLabels()

    def admit(self, outcome: Outcome) -> Outcome | None:
        """The next record, which `counts` where its label is the one to learn; None for a repeated one."""
        return self._first_labels.mark(outcome) if self._repeats.remember(outcome) else None

    def admit_again(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Records of history, as they were admitted before."""
        repeated = self._repeats.offsets
        return [self._first_labels.mark_again(outcome) for outcome in outcomes if outcome.offset not in repeated]

    def forget_history(self) -> None:
        """Forget what only `admit_again` needs, where history is not admitted a second time."""
        self._repeats.forget_offsets()
        self._first_labels.forget_marks()
