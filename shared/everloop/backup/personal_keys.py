"""The keys of personal values in a backup: as they are stored, wrapped by a master key that no backup has."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from everloop.backup import log_file, manifest
from everloop.backup.errors import BackupDamaged, BackupFailed, RestoreFailed
from everloop.backup.manifest import KEYS_FILE, BackupFile, BackupManifest, SavedKeys
from everloop.backup.settings import BackupSettings
from everloop.local.personal import keys_url
from everloop_models.store import write_atomically
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import ServiceError

if TYPE_CHECKING:
    from everloop_shared.personal.key_store import WrappedKey

ASKED_FOR, DONE = "registry.entity_erased.v1", "feature.entity_erased.v1"
"""The topics of erasures, and of what was erased."""
Entity = tuple[str, str]
"""A loop and an entity of it."""


def save(settings: BackupSettings, folder: Path) -> SavedKeys | None:
    """Save the keys, after the logs: so a key that is saved was not destroyed by an erasure that they call done.

    None where the settings name no store of keys. Raises BackupFailed.
    """
    if not settings.personal_keys_url:
        return None
    from everloop_shared.personal.key_store import KeyStore

    with _failing(BackupFailed, "The keys of personal values cannot be saved"):
        store = KeyStore(settings.personal_keys_url)
        try:
            keys = list(_all(store))
        finally:
            store.close()
    write_atomically(folder / KEYS_FILE, b"".join(map(_line, keys)))
    masters = sorted({key.master_id for key in keys})
    return SavedKeys(file=BackupFile.of(folder, KEYS_FILE), keys=len(keys), masters=masters)


def restore(settings: BackupSettings, source: Path, saved: BackupManifest) -> int:
    """Put the keys of a backup into the store, but those of entities whose erasure was asked for and not done yet.

    Returns how many these are. Raises BackupDamaged and RestoreFailed.
    """
    if saved.personal is None:
        return 0
    from everloop_shared.personal.key_store import KeyStore

    keys = [_read(line) for line in manifest.contents(source, saved.personal.file).splitlines()]
    pending = _pending(source, saved)
    kept = [key for key in keys if (key.loop, key.owner or key.entity) not in pending]
    url = settings.personal_keys_url or keys_url(settings.data)
    with _failing(RestoreFailed, "The keys of personal values cannot be restored"):
        store = KeyStore(url)
        try:
            if kept:
                store.add_all(kept)
        finally:
            store.close()
    return len(keys) - len(kept)


def loops_without_keys(states: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The loops with personal fields among the last states on the log."""
    found = []
    for loop, state in sorted(states.items()):
        with suppress(ValidationError, KeyError):
            if not state.get("deleted") and LoopSpec.model_validate(state["spec"]).personal_fields:
                found.append(loop)
    return found


def _pending(source: Path, saved: BackupManifest) -> set[Entity]:
    asked, done = dict[str, Entity](), set[str]()
    for log in saved.topics:
        if log.name not in (ASKED_FOR, DONE):
            continue
        for event in (event for part in log.partitions for event in _events(source, part)):
            if log.name == ASKED_FOR:
                asked[event["id"]] = event["loop"], event["subject"]
            elif cause := event.get("causationid"):
                done.add(cause)
    return {entity for id, entity in asked.items() if id not in done}


def _events(source: Path, part: manifest.PartitionLog) -> Iterator[dict[str, Any]]:
    for record in log_file.records(source, part):
        with suppress(ValueError):
            event = json.loads(record.value or b"null")
            if isinstance(event, dict) and all(isinstance(event.get(n), str) for n in ("id", "loop", "subject")):
                yield event


def _all(store: Any) -> Iterator[WrappedKey]:
    after = "", ""
    while page := store.page(after):
        yield from page
        after = page[-1].loop, page[-1].entity


def _line(key: WrappedKey) -> bytes:
    row = {**vars(key), "wrapped": b64encode(key.wrapped).decode(), "last_used": key.last_used.isoformat()}
    return json.dumps(row).encode() + b"\n"


def _read(line: bytes) -> WrappedKey:
    from everloop_shared.personal.key_store import WrappedKey

    try:
        row = json.loads(line)
        wrapped, last_used = b64decode(row.pop("wrapped"), validate=True), date.fromisoformat(row.pop("last_used"))
        if not all(isinstance(row[name], str) for name in ("loop", "entity", "key_id", "master_id")):
            raise ValueError("its names are no texts")
        if not all(value is None or isinstance(value, str | int) for value in row.values()):
            raise ValueError("it has other values")
        return WrappedKey(**row, wrapped=wrapped, last_used=last_used)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise BackupDamaged(f"{KEYS_FILE} has a line that is no key: {e!r:.100}", "Use another backup.") from e


@contextmanager
def _failing(failure: type[BackupFailed] | type[RestoreFailed], what: str) -> Iterator[None]:
    try:
        yield
    except (ServiceError, OSError) as e:
        reason = e.detail if isinstance(e, ServiceError) else e.strerror or e
        raise failure(f"{what}: {reason}.", "Look at EVERLOOP_PERSONAL_KEYS_URL.") from e
