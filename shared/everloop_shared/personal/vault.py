"""Seals and opens personal values; one for each process, with the keys that it used lately."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from everloop_schemas.envelope import DataEvent
from everloop_shared.bounded import Bounded
from everloop_shared.errors import Misconfigured, Unavailable
from everloop_shared.personal.master import read_master_keys
from everloop_shared.personal.records import comment_holder, holder_of, put_back, take_out, token_of, with_token

if TYPE_CHECKING:  # services of loops without personal fields load neither cryptography nor SQLAlchemy
    from everloop_shared.personal.key_store import KeyStore, WrappedKey
    from everloop_shared.personal.master import MasterKey
    from everloop_shared.personal.sealing import PersonalKey

E = TypeVar("E", bound=DataEvent)
CACHED_KEYS, CACHED_BYTES, KEY_SIZE = 100_000, 50_000_000, 200
CACHED_S = 30.0
"""How long a key counts without asking the store again, in a process that was not told of an erasure."""


class PersonalKeysMissing(Unavailable):
    """A loop has personal fields, and this process has no keys for them: its records wait."""

    title = "No personal keys"


class Vault:
    """The keys of entities, by loop. Thread-safe; connects to the store of keys at the first use.

    The methods without `_now` are for event loops: they wait for the store in a thread, and do not pause where the key
    is known. All raise PersonalKeysMissing where the settings name no store or no master key, and Unavailable while the
    store is away. A token that belongs to another loop or entity, or was changed, raises InputRejected.
    """

    def __init__(self, url: str, master: Path | None) -> None:
        self._url, self._master = url, master
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._cached = Bounded[tuple[str, str], tuple["PersonalKey | None", float, bool]](CACHED_KEYS, CACHED_BYTES)
        self._opened: tuple[KeyStore, tuple[MasterKey, ...]] | None = None

    @property
    def is_configured(self) -> bool:
        """Whether the settings name a store and a master key."""
        return bool(self._url) and self._master is not None

    async def seal(self, loop: str, entity: str, values: Mapping[str, Any]) -> str:
        """A token of these values; makes the entity's key where there is none."""
        if (key := self._known_in_use(loop, entity)) is None:
            key = await asyncio.to_thread(self._key_for_sealing, loop, entity)
        return key.seal(loop, entity, values)

    def seal_now(self, loop: str, entity: str, values: Mapping[str, Any]) -> str:
        """The same, blocking."""
        return self._key_for_sealing(loop, entity).seal(loop, entity, values)

    async def unseal(self, loop: str, entity: str, token: str) -> dict[str, Any] | None:
        """The values of a token; None where its key was destroyed."""
        if (cached := self._cached_key(loop, entity)) is None:
            return await asyncio.to_thread(self.unseal_now, loop, entity, token)
        return _unsealed(cached[0], loop, entity, token)

    def unseal_now(self, loop: str, entity: str, token: str) -> dict[str, Any] | None:
        """The same, blocking."""
        return _unsealed(self._key(loop, entity), loop, entity, token)

    def seal_bytes_now(self, loop: str, entity: str, data: bytes) -> bytes:
        """Bytes, encrypted with the entity's key; makes it where there is none. Blocks."""
        return self._key_for_sealing(loop, entity).seal_bytes(loop, entity, data)

    def unseal_bytes_now(self, loop: str, entity: str, sealed: bytes) -> bytes | None:
        """What `seal_bytes_now` was given; None where the key was destroyed. Blocks."""
        key = self._key(loop, entity)
        if key is None or not sealed.startswith(key.id.encode()):
            return None
        return key.unseal_bytes(loop, entity, sealed)

    def fetch_now(self, loop: str, entities: Iterable[str]) -> None:
        """Have the keys of these entities at hand, and know which have none, in one turn of the store. Blocks.

        They do not count as used: who reads the past does not prolong it.
        """
        unknown = [entity for entity in dict.fromkeys(entities) if self._cached_key(loop, entity) is None]
        if unknown:
            found = self.store.find_all(loop, unknown)
            for entity in unknown:
                stored = found.get(entity)
                self._remember(loop, entity, self._unwrap(stored) if stored else None)

    async def prepare(self, loop: str, entities: Iterable[str]) -> None:
        """Have the keys of these entities at hand, and make those that are missing, in one turn of the store.

        So the methods with `_now` do not block for a while.
        """
        if unknown := [entity for entity in dict.fromkeys(entities) if self._known_in_use(loop, entity) is None]:
            await asyncio.to_thread(self._prepare, loop, unknown)

    def _prepare(self, loop: str, entities: Sequence[str]) -> dict[str, PersonalKey]:
        """The keys of these entities, which count as used; makes those that are missing."""
        today = datetime.now(UTC).date()
        found = self.store.find_all(loop, entities, today)
        missing = [entity for entity in entities if entity not in found]
        made = self.store.add_all(self._new_keys(loop, missing, today)) if missing else ()
        keys = {stored.entity: self._unwrap(stored) for stored in (*found.values(), *made)}
        for entity, key in keys.items():
            self._remember(loop, entity, key, in_use=True)
        return keys

    def blind_now(self, loop: str, entity: str, digest: str) -> str:
        """What stands for a digest of an entity's personal values where others can read it; blocking."""
        return self._key_for_sealing(loop, entity).blind(digest)

    async def seal_event(self, event: E, names: frozenset[str]) -> E:
        """The event as it may be written: what it says about these fields or features is in its token.

        The event itself where there are no names. A token that it has already is kept, where that says it all.
        """
        if not names:
            return event
        clear, values = take_out(event, names)
        if values is None:
            return clear
        return with_token(clear, await self.seal(event.loop, holder_of(event), values))

    def seal_event_now(self, event: E, names: frozenset[str]) -> E:
        """The same, blocking."""
        if not names:
            return event
        clear, values = take_out(event, names)
        return clear if values is None else with_token(clear, self.seal_now(event.loop, holder_of(event), values))

    async def open_event(self, event: E) -> E | None:
        """The event with its personal values, which must not be written; None where the key was destroyed.

        The event itself where it has no token. The opened event keeps its token, for the records that follow from it.
        """
        if (token := token_of(event)) is None:
            return event
        values = await self.unseal(event.loop, holder_of(event), token)
        return None if values is None else put_back(event, values)

    def open_event_now(self, event: E) -> E | None:
        """The same, blocking."""
        if (token := token_of(event)) is None:
            return event
        values = self.unseal_now(event.loop, holder_of(event), token)
        return None if values is None else put_back(event, values)

    def forget(self, loop: str, entity: str) -> None:
        """Ask the store for the entity's key at its next use."""
        with self._lock:
            self._cached.discard((loop, entity))

    def set_owner(self, loop: str, prediction: str, entity: str) -> None:
        """Say that a prediction is of an entity, so that the key of its comment is destroyed with it. Blocks."""
        self.store.set_owner(loop, comment_holder(prediction), entity)

    def erase(self, loop: str, entity: str, made_until: datetime | None = None) -> bool:
        """Destroy an entity's key, and those of comments on its predictions; False where there was none. Blocks.

        With `made_until` a key that was made after that stays: it is that of somebody who came back.
        """
        until = None if made_until is None else int(made_until.timestamp())
        destroyed = self.store.destroy(loop, entity, until, int(time.time()))
        for holder in {entity, *destroyed}:
            self.forget(loop, holder)
        return bool(destroyed)

    def erase_loop(self, loop: str, made_until: datetime | None = None) -> int:
        """Destroy all keys of a loop, or those made until a moment; how many there were. Blocks."""
        destroyed = self.store.destroy_loop(loop, None if made_until is None else int(made_until.timestamp()))
        with self._lock:
            for key in self._cached:
                if key[0] == loop:
                    self._cached.discard(key)
        return destroyed

    @property
    def store(self) -> KeyStore:
        """The store of keys, opened. Blocks the first time."""
        return self._open()[0]

    @property
    def master_keys(self) -> tuple[MasterKey, ...]:
        """The master keys; the first wraps."""
        return self._open()[1]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def read_master_keys_again(self) -> None:
        """Read the file of the master keys, which others change: see `everloop personal-keys rotate`. Blocks."""
        store, _ = self._open()
        with self._making:
            assert self._master is not None, "it was read before"
            try:
                self._opened = store, read_master_keys(self._master)
            except Misconfigured as e:
                raise PersonalKeysMissing(e.detail) from e

    def close(self) -> None:
        """Close the connections and forget all keys."""
        with self._making:
            opened, self._opened = self._opened, None
        with self._lock:
            for key in self._cached:
                self._cached.discard(key)
        if opened:
            opened[0].close()

    def _open(self) -> tuple[KeyStore, tuple[MasterKey, ...]]:
        from everloop_shared.personal.key_store import KeyStore

        with self._making:
            if self._opened is None:
                if not self._url or self._master is None:
                    raise PersonalKeysMissing(
                        "a loop has personal fields: set EVERLOOP_PERSONAL_KEYS_URL and EVERLOOP_PERSONAL_MASTER_KEY"
                    )
                try:
                    self._opened = KeyStore(self._url), read_master_keys(self._master)
                except Misconfigured as e:  # records must wait until it is repaired, as without any setting
                    raise PersonalKeysMissing(e.detail) from e
            return self._opened

    def _cached_key(self, loop: str, entity: str) -> tuple[PersonalKey | None] | None:
        """What is known of an entity's key, None inside where it has none; None where the store must be asked."""
        with self._lock:
            found = self._cached.get((loop, entity))
        return (found[0],) if found and time.monotonic() < found[1] else None

    def _known_in_use(self, loop: str, entity: str) -> PersonalKey | None:
        """The key, where the store knows that it seals: only what was seen counts as use, not what is read again."""
        with self._lock:
            found = self._cached.get((loop, entity))
        return found[0] if found and found[2] and time.monotonic() < found[1] else None

    def _remember(self, loop: str, entity: str, key: PersonalKey | None, in_use: bool = False) -> PersonalKey | None:
        with self._lock:
            cached = key, time.monotonic() + CACHED_S, in_use
            self._cached.put((loop, entity), cached, KEY_SIZE + 2 * len(entity))
        return key

    def _key(self, loop: str, entity: str) -> PersonalKey | None:
        if cached := self._cached_key(loop, entity):
            return cached[0]
        found = self.store.find(loop, entity)
        return self._remember(loop, entity, self._unwrap(found) if found else None)

    def _key_for_sealing(self, loop: str, entity: str) -> PersonalKey:
        return self._known_in_use(loop, entity) or self._prepare(loop, [entity])[entity]

    def _new_keys(self, loop: str, entities: Sequence[str], today: date) -> list[WrappedKey]:
        from everloop_shared.personal.key_store import WrappedKey
        from everloop_shared.personal.sealing import PersonalKey

        self.read_master_keys_again()  # so that none is wrapped by a key that is being replaced
        master, now, new = self.master_keys[0], int(time.time()), list[WrappedKey]()
        for entity in entities:
            key = PersonalKey.create()
            new.append(WrappedKey(loop, entity, key.id, master.id, key.wrap(master, loop, entity), today, now))
        return new

    def _master_key(self, id: str) -> MasterKey | None:
        return next((key for key in self.master_keys if key.id == id), None)

    def _unwrap(self, found: WrappedKey) -> PersonalKey:
        from everloop_shared.personal.sealing import PersonalKey

        if (master := self._master_key(found.master_id)) is None:
            self.read_master_keys_again()
            master = self._master_key(found.master_id)
        if master is None:
            raise PersonalKeysMissing(f"the file of the master key lacks the key {found.master_id}, which wraps others")
        return PersonalKey.unwrap(master, found.loop, found.entity, found.key_id, found.wrapped)


def _unsealed(key: PersonalKey | None, loop: str, entity: str, token: str) -> dict[str, Any] | None:
    if key is None or not token.startswith(f"{key.id}."):
        return None
    return key.unseal(loop, entity, token)
