"""What feature needs: a keyed state for entities, another for joins, personal values, and metrics."""

from __future__ import annotations

from typing import Protocol

from everloop_shared.messaging.keyed.keyed_state import KeyedState
from everloop_shared.personal.port import PersonalValues

__all__ = ["KeyedState", "Metrics", "PersonalValues"]


class Metrics(Protocol):
    """Counts what happened. Never blocks, never raises; a record that is handled again after a crash counts again."""

    def count_vector(self, loop: str) -> None:
        """A vector was computed."""

    def count_duplicate(self, loop: str) -> None:
        """An observation was dropped: its id came before with the same data."""

    def count_id_taken(self, loop: str) -> None:
        """An observation was rejected: its id came before with other data."""

    def count_outcome(self, loop: str, kind: str) -> None:
        """An outcome of a label or of feedback (`kind`)."""

    def count_unjoined(self, loop: str, reason: str) -> None:
        """A label or a prediction was given up: late, never_came, evicted, or crowded_out."""

    def count_evicted_entity(self, loop: str) -> None:
        """An entity was evicted, or deleted with its loop."""

    def count_erased(self) -> None:
        """A record was left out: its personal values were erased."""

    def set_joins(self, partition: int, table: str, count: int, size: int) -> None:
        """How many predictions, or labels that wait for one (`table`), a partition has, and their bytes."""

    def set_entities(self, partition: int, count: int, size: int) -> None:
        """How many entities a partition has, and their bytes."""
