"""Keys, and files of trusted keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from everloop_shared.signing.keys import SigningKey, to_text
from everloop_shared.signing.trust import TrustStore
from everloop_shared.signing.uses import USES


def trusted_keys(
    path: Path,
    keys: Mapping[SigningKey, Iterable[str]] | SigningKey,
    adopted: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Path:
    """Write a file that trusts keys, each for what is named (one alone for everything); `fields` are of each key."""
    given = {keys: USES} if isinstance(keys, SigningKey) else keys
    entries = {k.id: {"public_key": to_text(k.public), "signs": list(signs), **fields} for k, signs in given.items()}
    path.write_text(json.dumps({"keys": entries, "adopted": adopted or {}}, default=str))
    return path


def trusting(path: Path, keys: Any, **fields: Any) -> TrustStore:
    """A store over such a file."""
    return TrustStore(trusted_keys(path, keys, **fields))


def key_file(path: Path) -> Path:
    """A new key in a file."""
    SigningKey.create().write(path)
    return path
