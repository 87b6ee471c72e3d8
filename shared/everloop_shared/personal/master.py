"""The master key, which wraps the keys of entities: a file that only its owner can read."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Self

from everloop_shared.errors import Misconfigured
from everloop_shared.files import create_private_file, read_private_file

KEY_BYTES = 32
MAX_MASTER_KEYS = 10
MAX_FILE_BYTES = 1_000


@dataclass(frozen=True, repr=False)
class MasterKey:
    """A key of 256 bits and its id, the first 16 hexadecimal digits of its SHA-256 with a prefix. It is never shown."""

    secret: bytes

    @cached_property
    def id(self) -> str:
        """Names the key beside what it wrapped; nothing about the key follows from it."""
        return sha256(b"everloop master key" + self.secret).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"MasterKey({self.id})"

    @classmethod
    def create(cls) -> Self:
        """A new key."""
        return cls(os.urandom(KEY_BYTES))

    def to_text(self) -> str:
        """The key as a line of a file."""
        return b64encode(self.secret).decode()


def read_master_keys(path: Path) -> tuple[MasterKey, ...]:
    """The keys of a file, one in base64 on each line: the first wraps, the others still unwrap.

    Raises Misconfigured, also where others than the owner can read the file; no message quotes it.
    """
    form = (
        f"{path} must hold one line for each key: 32 random bytes in base64, such as `openssl rand -base64 32` prints"
    )
    try:
        lines = read_private_file(path, MAX_FILE_BYTES).decode("ascii").split()
        keys = tuple(MasterKey(b64decode(line, validate=True)) for line in lines)
    except ValueError:
        raise Misconfigured(form) from None
    if not 1 <= len(keys) <= MAX_MASTER_KEYS or any(len(key.secret) != KEY_BYTES for key in keys):
        raise Misconfigured(form)
    return keys


def create_master_key(path: Path) -> None:
    """Write a new master key where there is no file yet; its folder is made for its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        create_private_file(path, f"{MasterKey.create().to_text()}\n".encode())
