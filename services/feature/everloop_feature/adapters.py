"""The keys of persons, from the vault that all services share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from everloop_feature.ports import PersonalKey
from everloop_shared.personal import Vault


class VaultKeys:
    """What of the vault has to do with forgetting."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    @property
    def is_configured(self) -> bool:
        """Whether the settings name a store and a master key."""
        return self._vault.is_configured

    def set_owner(self, loop: str, prediction: str, entity: str) -> None:
        """Say that a prediction is of an entity."""
        self._vault.set_owner(loop, prediction, entity)

    def erase(self, loop: str, entity: str, made_until: datetime) -> str | None:
        """Destroy the keys of an entity that were made until a moment; the id of one that was made later."""
        self._vault.erase(loop, entity, made_until)
        later = self._vault.store.find(loop, entity)
        return None if later is None else later.key_id

    def erase_loop(self, loop: str, made_until: datetime | None = None) -> int:
        """Destroy the keys of a loop that were made until a moment."""
        return self._vault.erase_loop(loop, made_until)

    def unused_since(self, loop: str, day: date, limit: int) -> Sequence[PersonalKey]:
        """Keys that sealed nothing since a day."""
        return self._vault.store.unused_since(loop, day, limit)

    def destroy_unused(self, loop: str, entity: str, day: date) -> bool:
        """Destroy the key of an entity where it sealed nothing since a day."""
        destroyed = self._vault.store.destroy_unused(loop, entity, day)
        self._vault.forget(loop, entity)
        return destroyed
