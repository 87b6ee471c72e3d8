"""Replaces the master key: a new one in the file, all keys of entities wrapped by it, then the old ones gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from everloop_shared.errors import Misconfigured
from everloop_shared.files import replace_file
from everloop_shared.personal.key_store import KeyStore, WrappedKey
from everloop_shared.personal.master import MAX_MASTER_KEYS, MasterKey, read_master_keys
from everloop_shared.personal.sealing import PersonalKey

PAGE = 500


class RotationUnfinished(Misconfigured):
    """Keys are still wrapped by a master key that should go."""

    title = "Rotation not finished"


def add_master_key(path: Path, store: KeyStore) -> MasterKey:
    """Write a new master key before those of the file, which stay; the first one, where it has not wrapped all yet.

    Raises Misconfigured where the file has as many keys as it may.
    """
    known = read_master_keys(path)
    if len(known) > 1 and store.wrapped_by_others(known[0].id, 1):
        return known[0]
    if len(known) >= MAX_MASTER_KEYS:
        raise Misconfigured(
            f"{path} has {MAX_MASTER_KEYS} keys already: everloop personal-keys retire removes old ones"
        )
    made = MasterKey.create()
    _write(path, (made, *known))
    return made


def wrap_again(path: Path, store: KeyStore, on_wrapped: Callable[[int], None] = lambda n: None) -> int:
    """Wrap every key by the first master key of the file; how many were wrapped. Ended at any point, it goes on there.

    Raises Misconfigured where the file lacks the master key of one of them.
    """
    masters = read_master_keys(path)
    first, by_id, done = masters[0], {key.id: key for key in masters}, 0
    while keys := store.wrapped_by_others(first.id, PAGE):
        for key in keys:
            if (old := by_id.get(key.master_id)) is None:
                raise Misconfigured(
                    f"{path} lacks the master key {key.master_id}, which wraps keys; add its line again"
                )
            store.replace(key, _wrap(key, old, first))
        done += len(keys)
        on_wrapped(len(keys))
    return done


def retire(path: Path, store: KeyStore) -> int:
    """Remove all master keys but the first from the file; how many. Raises RotationUnfinished while one is used."""
    first, *old = read_master_keys(path)
    if left := sum(number for master, number in store.count_wrapped().items() if master != first.id):
        raise RotationUnfinished(f"{left:,} keys are wrapped by older master keys: everloop personal-keys rotate")
    if old:
        _write(path, (first,))
    return len(old)


def _wrap(key: WrappedKey, old: MasterKey, new: MasterKey) -> WrappedKey:
    opened = PersonalKey.unwrap(old, key.loop, key.entity, key.key_id, key.wrapped)
    wrapped = opened.wrap(new, key.loop, key.entity)
    return WrappedKey(**{**vars(key), "master_id": new.id, "wrapped": wrapped})


def _write(path: Path, keys: tuple[MasterKey, ...]) -> None:
    replace_file(path, "".join(f"{key.to_text()}\n" for key in keys).encode())
