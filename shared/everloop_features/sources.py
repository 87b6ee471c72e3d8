"""How much of a loop's truth one source of feedback may decide: pure, a fold of the outcome log in its order."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

SHARE, SHARE_OF_ALL, FREE = 0.05, 0.25, 10
"""Of as many predictions as labels decided: what one source may decide, what all of them may, and what is free."""
SOURCES = 100
"""Sources counted by name; those that come later count as one."""
OTHERS = "others"


@dataclass
class Sources:
    """Predictions of one loop whose truth came from a label, and from feedback, in all and by source.

    A loop where most of the truth is feedback lives by it, and hears everybody. Where most of it is labels, feedback
    is an opinion: a source has its share, the nameless are one source, and beyond the share nothing is decided.
    """

    labels: int = 0
    feedback: int = 0
    by_source: dict[str, int] = field(default_factory=dict)

    def decides(self, by_label: bool, source: str | None) -> bool:
        """Whether the first truth of a prediction counts, by whom it comes; counts it where it does."""
        if by_label:
            self.labels += 1
            return True
        name = self._named(source)
        decided = self.by_source.get(name, 0)
        if self.labels > self.feedback and (self._full(decided, SHARE) or self._full(self.feedback, SHARE_OF_ALL)):
            return False
        self.by_source[name] = decided + 1
        self.feedback += 1
        return True

    def _full(self, decided: int, share: float) -> bool:
        return decided >= max(FREE, share * self.labels)

    def _named(self, source: str | None) -> str:
        name = blake2b((source or "").encode(), digest_size=8).hexdigest()
        return name if name in self.by_source or len(self.by_source) < SOURCES else OTHERS
