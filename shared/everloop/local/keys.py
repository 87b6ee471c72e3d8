"""The keys of a local installation that asks for tokens: of its owner, and of services that ask others.

Serving reads from feature, and monitoring gives ingest the dead letters of people who may not publish.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from everloop_shared.access.key_file import (
    GrantedRole,
    KeyFile,
    change_key_file,
    is_secret_of,
    make_key,
    split_token,
)
from everloop_shared.clock import system_clock
from everloop_shared.files import replace_file

FOLDER, KEYS = "access", "keys.json"
TOKEN, SERVING_TOKEN, MONITORING_TOKEN = "token", "serving.token", "monitoring.token"
LETTER_ROLES = ("publisher", "labeler")
"""What monitoring needs at ingest for the dead letters of people who may send them and not publish."""


def make_keys(folder: Path) -> str:
    """Make the file of keys and the tokens of the owner and of services, as far as they do not work; its folder.

    Every token is in a file that its owner alone can read; the file of keys has only their hashes.
    """
    access = folder / FOLDER
    access.mkdir(mode=0o700, parents=True, exist_ok=True)
    ensure_key(access / KEYS, folder / TOKEN, "owner", ("admin",), "key")
    ensure_key(access / KEYS, access / SERVING_TOKEN, "everloop/serving", ("viewer",), "service")
    ensure_key(access / KEYS, access / MONITORING_TOKEN, "everloop/monitoring", LETTER_ROLES, "service")
    return str(access)


def ensure_key(keys: Path, file: Path, subject: str, roles: tuple[str, ...], kind: Literal["key", "service"]) -> None:
    """Make a key and its token in `file`, unless the token that is there works."""
    now = system_clock()
    made: list[str] = []

    def change(before: KeyFile) -> KeyFile:
        kept = _works(before, file)
        if kept:
            return before
        key = make_key(subject, tuple(GrantedRole(role=role) for role in roles), now, kind=kind)
        made.append(key.token)
        return before.model_copy(update={"keys": (*before.keys, key.stored)})

    change_key_file(keys, change)
    for token in made:
        replace_file(file, f"{token}\n".encode())


def _works(keys: KeyFile, file: Path) -> bool:
    try:
        parts = split_token(file.read_text().strip())
    except OSError:
        return False
    return parts is not None and any(
        key.prefix == parts[0] and is_secret_of(key, parts[1]) and key.ended(system_clock()) is None
        for key in keys.keys
    )
