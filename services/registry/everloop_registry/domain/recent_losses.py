"""The losses of a line on its last outcomes, and whether it got worse than its snapshots that are served."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

from pydantic import BaseModel, Field

RECENT_OUTCOMES = 100
"""The outcomes on which a line is compared with its served snapshots: the latest that both predicted."""
MIN_COMPARED_OUTCOMES = 30
"""With fewer outcomes that both predicted, nothing is known."""
MAX_STANDARD_ERRORS = 2.33
"""The standard errors within which a difference is noise: one harmless refresh in a hundred is refused."""


class RecentLosses(BaseModel):
    """The losses of one line on its last outcomes, by offset: of the line as it learns, and of its served snapshots.

    `blocks` are the last ones in which its snapshots predicted, by their end, where the metric is one of ranks.
    """

    line: dict[int, float] = Field(default_factory=dict)
    served: dict[int, float] = Field(default_factory=dict)
    blocks: dict[int, tuple[float, ...]] = Field(default_factory=dict)

    def add_line_loss(self, offset: int, loss: float) -> None:
        """Add the line's own loss, predicted before it learned."""
        keep_loss(self.line, offset, loss)

    def add_served_loss(self, offset: int, loss: float) -> None:
        """Add the loss of what serving predicted with the line's snapshot, served or in shadow."""
        keep_loss(self.served, offset, loss)

    def add_served_block(self, end: int, losses: tuple[float, ...]) -> None:
        """Add the losses of what serving predicted with the line's snapshots in a block."""
        self.blocks[end] = losses
        while len(self.blocks) > RECENT_OUTCOMES:
            del self.blocks[next(iter(self.blocks))]

    def gaps(self, any_served: Mapping[int, float]) -> list[float]:
        """The line's loss minus that of its served snapshots, on its last outcomes.

        `any_served` are the losses of whatever was served: they stand in where no snapshot of the line predicted, so
        that a line that has just taken over is compared with the version that it took over from.
        """
        served = {**any_served, **self.served}
        return [self.line[o] - served[o] for o in sorted(self.line.keys() & served.keys())[-RECENT_OUTCOMES:]]


def regression_reason(gaps: list[float]) -> str | None:
    """Why a line is worse than what is served by more than noise, None where it is not."""
    mean = sum(gaps) / len(gaps)
    error = sqrt(sum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1) / len(gaps))
    if mean <= MAX_STANDARD_ERRORS * error:
        return None
    return f"its line was worse by {mean:.3f} ± {error:.3f} than what is served, on the last {len(gaps)} outcomes"


def keep_loss(losses: dict[int, float], offset: int, loss: float) -> None:
    """Keep the loss at an offset, clipped to [0, 1], and evict the oldest."""
    losses[offset] = max(0.0, min(1.0, loss))
    while len(losses) > 2 * RECENT_OUTCOMES:
        del losses[next(iter(losses))]
