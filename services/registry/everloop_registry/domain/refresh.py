"""The light gate: whether a line's newer snapshot may take the place of the one that is served."""

from __future__ import annotations

from math import sqrt

from pydantic import BaseModel, Field

LAST = 100
ENOUGH = 30
NOISE = 2.33
"""So many standard errors are noise: one harmless refresh in a hundred is put off to the next."""


class Recent(BaseModel):
    """The losses of one line on its last outcomes, by offset: as it learns, and as its snapshots were served."""

    line: dict[int, float] = Field(default_factory=dict)
    served: dict[int, float] = Field(default_factory=dict)

    def learned(self, offset: int, loss: float) -> None:
        """The line's own loss, predicted before it learned."""
        _keep(self.line, offset, loss)

    def logged(self, offset: int, loss: float) -> None:
        """The loss of what serving predicted with the line's snapshot, served or in shadow."""
        _keep(self.served, offset, loss)

    def worse(self) -> str | None:
        """Why the line is worse than its served snapshot by more than noise, None where it is not."""
        pairs = sorted(self.line.keys() & self.served.keys())[-LAST:]
        if len(pairs) < ENOUGH:
            return None
        gaps = [self.line[o] - self.served[o] for o in pairs]
        mean = sum(gaps) / len(gaps)
        error = sqrt(sum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1) / len(gaps))
        if mean <= NOISE * error:
            return None
        return f"its line was worse by {mean:.3f} ± {error:.3f} than what is served, on the last {len(pairs)} outcomes"


def _keep(losses: dict[int, float], offset: int, loss: float) -> None:
    losses[offset] = max(0.0, min(1.0, loss))
    while len(losses) > 2 * LAST:
        del losses[next(iter(losses))]
