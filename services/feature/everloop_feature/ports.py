"""What feature needs: a keyed state for entities, another for joins, personal values and their keys, and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Protocol

from everloop_shared.messaging.keyed.keyed_state import KeyedState
from everloop_shared.personal.port import PersonalValues

__all__ = ["KeyedState", "Metrics", "PersonalKeys", "PersonalValues", "SealedValues"]


class SealedValues(Protocol):
    """Opens what is sealed. Raises Unavailable while the keys cannot be reached, InputRejected for a changed token."""

    async def unseal(self, loop: str, entity: str, token: str) -> dict[str, Any] | None:
        """The values of a token; None where its key was destroyed."""


class PersonalKey(Protocol):
    """The key of an entity, as far as its retention is concerned."""

    @property
    def entity(self) -> str: ...
    @property
    def key_id(self) -> str: ...


class PersonalKeys(Protocol):
    """The keys that seal personal values. The methods block, and raise Unavailable while the store is away."""

    @property
    def is_configured(self) -> bool:
        """Whether the settings name a store."""

    def set_owner(self, loop: str, prediction: str, entity: str) -> None:
        """Say that a prediction is of an entity, so that the key of its comment is destroyed with the entity's."""

    def erase(self, loop: str, entity: str, made_until: datetime) -> str | None:
        """Destroy the key of an entity, and those of comments on its predictions, that were made until a moment.

        The id of the key of somebody who came back since, None where nobody did. Idempotent.
        """

    def erase_loop(self, loop: str, made_until: datetime | None = None) -> int:
        """Destroy the keys of a loop that were made until a moment."""

    def unused_since(self, loop: str, day: date, limit: int) -> Sequence[PersonalKey]:
        """Keys that sealed nothing since a day."""

    def destroy_unused(self, loop: str, entity: str, day: date) -> bool:
        """Destroy the key of an entity where it sealed nothing since a day."""


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

    def count_forgotten(self, loop: str, cause: str) -> None:
        """An entity was forgotten: a person asked for it, or the loop's retention."""

    def count_evicted_entity(self, loop: str) -> None:
        """An entity was evicted, or deleted with its loop."""

    def count_erased(self) -> None:
        """A record was left out: its personal values were erased."""

    def set_joins(self, partition: int, table: str, count: int, size: int) -> None:
        """How many predictions, or labels that wait for one (`table`), a partition has, and their bytes."""

    def set_entities(self, partition: int, count: int, size: int) -> None:
        """How many entities a partition has, and their bytes."""
