"""How many of a loop's predictions one source of feedback may decide, counted in the order of the outcome log."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

SHARE_OF_ONE_SOURCE, SHARE_OF_ALL_SOURCES = 0.05, 0.25
"""Predictions that feedback may decide, as a share of those that labels decided."""
FREE_PREDICTIONS = 10
"""Predictions that each source may decide in any case."""
SOURCES_BY_NAME = 100
"""Sources that are counted by name; further ones are counted together."""
OTHER_SOURCES = "others"


@dataclass
class FeedbackShare:
    """How many predictions of a loop labels decided, and feedback did, in all and by source.

    Where labels decide most predictions, feedback is an opinion: a source decides its share and no more, and feedback
    without a source counts as one source. Where feedback decides most, there is no limit.
    """

    labels: int = 0
    feedback: int = 0
    by_source: dict[str, int] = field(default_factory=dict)

    def admit(self, is_label: bool, source: str | None) -> bool:
        """Whether the first label or feedback of a prediction decides its label; counts it where it does."""
        if is_label:
            self.labels += 1
            return True
        name = self._counted_as(source)
        decided = self.by_source.get(name, 0)
        labels_lead = self.labels > self.feedback
        if labels_lead and (
            self._is_used_up(decided, SHARE_OF_ONE_SOURCE) or self._is_used_up(self.feedback, SHARE_OF_ALL_SOURCES)
        ):
            return False
        self.by_source[name] = decided + 1
        self.feedback += 1
        return True

    def _is_used_up(self, decided: int, share: float) -> bool:
        return decided >= max(FREE_PREDICTIONS, share * self.labels)

    def _counted_as(self, source: str | None) -> str:
        name = blake2b((source or "").encode(), digest_size=8).hexdigest()
        return name if name in self.by_source or len(self.by_source) < SOURCES_BY_NAME else OTHER_SOURCES
