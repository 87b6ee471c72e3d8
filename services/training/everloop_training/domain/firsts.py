"""Which record of the outcome log teaches a prediction's truth: the first with a label that counts, whoever said it."""

from __future__ import annotations

from hashlib import blake2b

from everloop_features.sources import Sources
from everloop_training.domain.outcome import Outcome

OPEN = 20_000
"""Predictions without a truth so far for which a later label is still learned, the latest."""
OFFSETS_KEPT = 100_000
"""Records that count otherwise than their place says, the latest, for lines that are rebuilt from history."""


class Firsts:
    """Feedback beyond its source's share teaches nothing, and neither does "not this": the label after it does."""

    def __init__(self) -> None:
        self._sources = Sources()
        self._open: dict[bytes, None] = {}  # a set that knows its oldest member
        self._counts: dict[int, bool] = {}

    def judged(self, outcome: Outcome) -> Outcome:
        """The next record of the log, `first` where it is the one to learn."""
        if outcome.first:
            return self._first(outcome)
        if not self._open or outcome.label is None:
            return outcome
        mark = _mark(outcome)
        if mark not in self._open or not self._sources.decides(not outcome.feedback, outcome.source):
            return outcome
        del self._open[mark]
        return self._counted(outcome, True)

    def recalled(self, outcome: Outcome) -> Outcome:
        """A record of history, as it was judged."""
        return outcome._replace(first=self._counts.get(outcome.offset, outcome.first))

    def _first(self, outcome: Outcome) -> Outcome:
        if outcome.label is not None and self._sources.decides(not outcome.feedback, outcome.source):
            return outcome
        self._open[_mark(outcome)] = None
        if len(self._open) > OPEN:
            del self._open[next(iter(self._open))]
        return outcome if outcome.label is None else self._counted(outcome, False)

    def _counted(self, outcome: Outcome, first: bool) -> Outcome:
        self._counts[outcome.offset] = first
        if len(self._counts) > OFFSETS_KEPT:
            del self._counts[next(iter(self._counts))]
        return outcome._replace(first=first)


def _mark(outcome: Outcome) -> bytes:
    return blake2b(outcome.prediction_id.encode(), digest_size=8).digest()
