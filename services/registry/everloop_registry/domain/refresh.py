"""The light gate: whether a line's newer snapshot may take the place of the one that is served."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

from pydantic import BaseModel, Field

LAST = 100
ENOUGH = 30
NOISE = 2.33
"""So many standard errors are noise: one harmless refresh in a hundred is put off to the next."""
DEADLINE = 1000
"""A refresh waits for evidence until its line has learned so many more outcomes; then it is refused."""
WAITING = 10


class Recent(BaseModel):
    """The losses of one line on its last outcomes, by offset: as it learns, and as its snapshots were served."""

    line: dict[int, float] = Field(default_factory=dict)
    served: dict[int, float] = Field(default_factory=dict)

    def learned(self, offset: int, loss: float) -> None:
        """The line's own loss, predicted before it learned."""
        keep_loss(self.line, offset, loss)

    def logged(self, offset: int, loss: float) -> None:
        """The loss of what serving predicted with the line's snapshot, served or in shadow."""
        keep_loss(self.served, offset, loss)

    def gaps(self, anyone: Mapping[int, float]) -> list[float]:
        """How much worse the line was than its snapshots, on its last outcomes; where none of them predicted, than
        what was served: a line that has just taken over is judged by what it took over from."""
        logged = {**anyone, **self.served}
        return [self.line[o] - logged[o] for o in sorted(self.line.keys() & logged.keys())[-LAST:]]


class Waiting(BaseModel):
    """A newer version of a live line that waits until there is evidence; `learned` counts outcomes when it came."""

    version: str
    line: str
    offset: int
    learned: int


def worse(gaps: list[float]) -> str | None:
    """Why a line is worse than what is served by more than noise, None where it is not."""
    mean = sum(gaps) / len(gaps)
    error = sqrt(sum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1) / len(gaps))
    if mean <= NOISE * error:
        return None
    return f"its line was worse by {mean:.3f} ± {error:.3f} than what is served, on the last {len(gaps)} outcomes"


def keep_loss(losses: dict[int, float], offset: int, loss: float) -> None:
    """Remember the loss at an offset, within its bounds, and forget the oldest."""
    losses[offset] = max(0.0, min(1.0, loss))
    while len(losses) > 2 * LAST:
        del losses[next(iter(losses))]
