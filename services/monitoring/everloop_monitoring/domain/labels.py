"""Which label counts for an outcome, where labels, feedback and corrections differ."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_learning.feedback_share import FeedbackShare
from everloop_monitoring.domain.contradictions import Contradictions
from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObservedData


@dataclass(slots=True)
class LabelSelection:
    """Selects the label that counts, and records contradictions.

    `alert` is the message of the alert that the last outcome raised because contradictions are frequent.
    """

    sources: FeedbackShare
    contradictions: Contradictions
    alert: str | None = None

    def select_first(self, outcome: OutcomeObservedData) -> Scalar | None:
        """The label of an outcome without one; None where there is none, or its source has reached its share."""
        if outcome.label is None or self.sources.admit(outcome.kind == "label", outcome.source):
            return outcome.label
        self.contradictions.over_share += 1
        self._record(outcome)
        return None

    def select_correction(self, outcome: OutcomeObservedData, known: Scalar | None) -> Scalar | None:
        """The label of an outcome whose label was `known`, after a correction or a dispute."""
        if outcome.disputed:
            self.contradictions.disputed += 1
            self._record(outcome)
        if outcome.label == known:
            return known
        if known is None:
            return self.select_first(outcome)
        if outcome.kind == "feedback" and not self.sources.admit(False, outcome.source):
            self.contradictions.over_share += 1
            self._record(outcome)
            return known
        self.contradictions.changed += 1
        self._record(outcome)
        return outcome.label

    def _record(self, outcome: OutcomeObservedData) -> None:
        feedback = f"feedback of {outcome.source!r}" if outcome.source else "feedback without a source"
        source = feedback if outcome.kind == "feedback" else "labels"
        self.alert = self.contradictions.record(source) or self.alert
