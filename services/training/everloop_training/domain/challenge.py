"""The losses of the lines since they were last told, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

from everloop_schemas.training import Line

LIMIT = 100


@dataclass
class Challenge:
    """Losses per line by offset; a line that was not there for an offset has None."""

    offsets: list[int] = field(default_factory=list)
    losses: dict[str, list[float | None]] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Whether it is time to tell."""
        return len(self.offsets) >= LIMIT

    def add(self, offset: int, losses: dict[str, float]) -> None:
        """Losses of one outcome by line."""
        for name, loss in losses.items():
            known = self.losses.setdefault(name, [])
            known.extend([None] * (len(self.offsets) - len(known)))
            known.append(loss)
        self.offsets.append(offset)

    def padded(self) -> dict[str, list[float | None]]:
        """The losses, each line as long as `offsets`."""
        return {name: known + [None] * (len(self.offsets) - len(known)) for name, known in self.losses.items()}
