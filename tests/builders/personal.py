"""Keys of personal values in a folder, and the search for values that should be nowhere in clear."""

from __future__ import annotations

import re
import sqlite3
import struct
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from everloop_schemas.catalogue import TOPICS
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.personal import Vault
from everloop_shared.personal.master import create_master_key


def personal_settings(folder: Path) -> dict[str, Any]:
    """The settings of a service with a store of keys below `folder`, where the master key is made."""
    master = folder / "personal" / "master.key"
    create_master_key(master)
    return {"personal_keys_url": f"sqlite:///{folder}/personal/keys.db", "personal_master_key": master}


def vault_of(folder: Path) -> Vault:
    """A vault on the same keys."""
    settings = personal_settings(folder)
    return Vault(settings["personal_keys_url"], settings["personal_master_key"])


@contextmanager
def keys_away(folder: Path) -> Iterator[None]:
    """Lock the store of keys, as another process that hangs in a transaction would."""
    holder = sqlite3.connect(folder / "personal" / "keys.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def forms_of(value: float | str) -> list[bytes]:
    """The bytes by which a value shows: as text and in base64, wherever in a record it stands, and a number in binary.

    The numbers of a test must be unlikely, and the texts at least eight characters long.
    """
    text = str(value).encode()
    found = [text, *(_in_base64(text, before) for before in range(3))]
    return found if isinstance(value, str) else [*found, struct.pack(">d", value), struct.pack("<d", value)]


def found_in(content: bytes, values: Iterable[float | str]) -> list[float | str]:
    """The values that show in some bytes."""
    plain = content.replace(b"-", b"+").replace(b"_", b"/")
    return [value for value in values if any(form in content or form in plain for form in forms_of(value))]


def bytes_on(broker: MemoryBroker) -> bytes:
    """Every byte of every topic of a broker."""
    records = (r for topic in TOPICS for partition in range(broker.partitions) for r in broker.log(topic, partition))
    return b"\n".join(part for r in records for part in (r.key, r.value, *(v for _, v in r.headers)) if part)


def bytes_below(folder: Path) -> bytes:
    """Every byte of every file below a folder."""
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def _in_base64(text: bytes, before: int) -> bytes:
    """What stays the same of a text in base64, `before` bytes after a multiple of three."""
    encoded = b64encode(b"\0" * before + text + b"\0\0")
    first, whole = (before * 8 + 5) // 6, (before + len(text)) * 8 // 6
    return re.sub(rb"=", b"", encoded[first:whole])
