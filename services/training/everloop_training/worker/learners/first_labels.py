"""Decides which record of the outcome log is learned for a prediction: the first whose label counts."""

from __future__ import annotations

from hashlib import blake2b

from everloop_features.sources import Sources
from everloop_training.domain.outcome import Outcome

UNLABELLED_KEPT = 20_000
"""Predictions without a label that counts, the latest, for which a later label is still learned."""
DECISIONS_KEPT = 100_000
"""Records that were decided otherwise than `first` says, the latest, for lines that are rebuilt from history."""


class FirstLabels:
    """Sets `first` on each outcome that is to be learned.

    Feedback beyond its source's share is not learned, and neither is "not this": the label that follows it is.
    """

    def __init__(self) -> None:
        self._sources = Sources()
        self._unlabelled: dict[bytes, None] = {}  # a set that knows its oldest member
        self._decisions: dict[int, bool] = {}

    def decide(self, outcome: Outcome) -> Outcome:
        """The next record of the log, `first` where it is the one to learn."""
        if outcome.first:
            return self._decide_first(outcome)
        if not self._unlabelled or outcome.label is None:
            return outcome
        digest = _digest(outcome)
        if digest not in self._unlabelled or not self._sources.decides(not outcome.feedback, outcome.source):
            return outcome
        del self._unlabelled[digest]
        return self._remember(outcome, True)

    def recall(self, outcome: Outcome) -> Outcome:
        """A record of history, with what was decided when it was new."""
        return outcome._replace(first=self._decisions.get(outcome.offset, outcome.first))

    def _decide_first(self, outcome: Outcome) -> Outcome:
        if outcome.label is not None and self._sources.decides(not outcome.feedback, outcome.source):
            return outcome
        self._unlabelled[_digest(outcome)] = None
        if len(self._unlabelled) > UNLABELLED_KEPT:
            del self._unlabelled[next(iter(self._unlabelled))]
        return outcome if outcome.label is None else self._remember(outcome, False)

    def _remember(self, outcome: Outcome, first: bool) -> Outcome:
        self._decisions[outcome.offset] = first
        if len(self._decisions) > DECISIONS_KEPT:
            del self._decisions[next(iter(self._decisions))]
        return outcome._replace(first=first)


def _digest(outcome: Outcome) -> bytes:
    return blake2b(outcome.prediction_id.encode(), digest_size=8).digest()
