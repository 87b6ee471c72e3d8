"""What the servers answer, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from everloop_schemas.envelope import Scalar


@dataclass(frozen=True)
class Rejected:
    """An entry that was refused: where it stood in what was sent, its id, and (field, error) pairs."""

    index: int
    id: str | None
    errors: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Accepted:
    """What the broker has now, by id, and what was refused beside it."""

    ids: tuple[str, ...]
    rejected: tuple[Rejected, ...] = ()

    @property
    def accepted(self) -> int:
        """How many were accepted."""
        return len(self.ids)


@dataclass(frozen=True)
class Prediction:
    """An answer of serving. `id` is what a label names later; `role` is baseline, champion or canary."""

    id: str
    prediction: Scalar
    version: str
    role: str
    probabilities: dict[str, float] | None = None
    features: dict[str, Scalar | None] = field(default_factory=dict)
