"""What handlers need of the vault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from everloop_schemas.envelope import DataEvent

E = TypeVar("E", bound=DataEvent)


class PersonalValues(Protocol):
    """Seals and opens personal values; see `Vault`, which implements it.

    What is synchronous asks the store only where `prepare` was not awaited for the entity lately. All raise Unavailable
    while the store is away.
    """

    async def prepare(self, loop: str, entities: Iterable[str]) -> None:
        """Have the keys of these entities at hand, and make those that are missing."""

    async def open_event(self, event: E) -> E | None:
        """The event with its personal values, which must not be written; None where they were erased."""

    def open_event_now(self, event: E) -> E | None:
        """The same."""

    async def unseal(self, loop: str, entity: str, token: str) -> dict[str, Any] | None:
        """The values of a token; None where they were erased."""

    def seal_event_now(self, event: E, names: frozenset[str]) -> E:
        """The event as it may be written; it keeps the token that it has, where that says it all."""

    def seal_now(self, loop: str, entity: str, values: Mapping[str, Any]) -> str:
        """A token of these values."""

    def unseal_now(self, loop: str, entity: str, token: str) -> dict[str, Any] | None:
        """The values of a token; None where they were erased."""

    def blind_now(self, loop: str, entity: str, digest: str) -> str:
        """What stands for a digest of an entity's personal values where others can read it."""
