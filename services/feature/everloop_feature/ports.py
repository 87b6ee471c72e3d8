"""What feature needs: its two keyed states, and a note of what happened."""

from __future__ import annotations

from typing import Protocol

from everloop_shared.messaging.keyed.store import KeyedState

__all__ = ["KeyedState", "Notes"]


class Notes(Protocol):
    """Counts what happened, for the metrics. Never blocks, never raises; counts again after a crash."""

    def duplicate(self, loop: str) -> None:
        """An observation was dropped because its id was seen before."""

    def taken(self, loop: str) -> None:
        """An observation was refused because its id came before with other data."""

    def computed(self, loop: str) -> None:
        """A vector was computed."""

    def outcome(self, loop: str, kind: str) -> None:
        """An outcome left."""

    def unjoined(self, loop: str, reason: str) -> None:
        """A label or a prediction was given up: late, never_came, evicted, or crowded_out."""

    def kept(self, partition: int, table: str, count: int, size: int) -> None:
        """How much a partition keeps of predictions, and of labels that wait for one; in bytes."""

    def forgotten(self, loop: str) -> None:
        """An entity was forgotten for the limit's sake."""

    def entities(self, partition: int, entities: int, size: int) -> None:
        """How many entities a partition keeps, and how many bytes they take."""
