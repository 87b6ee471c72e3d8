"""The findings of the checker, each with the ids that it is about."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Findings:
    """Claims that do not hold; `figures` counts the checks, so that no finding means something."""

    found: list[tuple[str, str]] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)

    def add(self, claim: str, what: str) -> None:
        """A claim does not hold."""
        self.found.append((claim, what))

    def expect(self, claim: str, holds: object, what: Any) -> None:
        """Count one check of a claim, and add a finding where it does not hold."""
        self.figures[claim] += 1
        if not holds:
            self.add(claim, str(what() if callable(what) else what)[:600])

    def by_claim(self) -> dict[str, list[str]]:
        """The findings, gathered."""
        gathered: dict[str, list[str]] = {}
        for claim, what in self.found:
            gathered.setdefault(claim, []).append(what)
        return gathered
