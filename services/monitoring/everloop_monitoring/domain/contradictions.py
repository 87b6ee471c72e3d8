"""What is said against what was known, watched as errors are: a moving rate, and who says it."""

from __future__ import annotations

from dataclasses import dataclass, field

STEP = 0.01
"""How much the last outcome or contradiction weighs in the rate."""
HIGH, CALM = 0.2, 0.05
"""The rate at which a person is told, and the one below which it may be told again."""
NAMES, NAME_LENGTH = 20, 80


@dataclass(slots=True)
class Contradictions:
    """Counts of a loop: labels `changed` by others, feedback that `disputed` a label, and feedback that decided
    nothing because its source had decided its share (`unheard`).

    `rate` is the moving share of contradictions among outcomes and contradictions; `by` counts them by source since
    it was low, `told` says that a person knows.
    """

    changed: int = 0
    disputed: int = 0
    unheard: int = 0
    rate: float = 0.0
    told: bool = False
    by: dict[str, int] = field(default_factory=dict)

    def agreed(self) -> None:
        """An outcome came that contradicts nothing."""
        self.rate *= 1 - STEP
        if self.rate < CALM and (self.told or self.by):
            self.told, self.by = False, {}

    def contradicted(self, who: str) -> str | None:
        """A contradiction came; what a person is to be told, where it is one too many."""
        self.rate += STEP * (1 - self.rate)
        who = who[:NAME_LENGTH]
        if who in self.by or len(self.by) < NAMES:
            self.by[who] = self.by.get(who, 0) + 1
        if self.told or self.rate < HIGH:
            return None
        self.told = True
        most = max(self.by, key=lambda name: self.by[name])
        return (
            f"{self.rate:.0%} of what came last contradicts what was known: {self.by[most]} of "
            f"{sum(self.by.values())} such words came from {most}"
        )
