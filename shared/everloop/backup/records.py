"""A record as one line of JSON, and digests by which two logs are compared."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

GAP = b"everloop.gap"
"""The key of an empty record that stands where the original log has none, so that the next offset is right."""


@dataclass(frozen=True)
class BackupRecord:
    """A record as it lies on a partition; `time` in ms since the epoch."""

    offset: int
    time: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    @property
    def fills_gap(self) -> bool:
        """Whether a restore put it there."""
        return self.key == GAP and self.value is None

    def line(self) -> bytes:
        """One line of JSON: text as it is, so that people can read it; other bytes in base64."""
        whole: dict[str, Any] = {"offset": self.offset, "time": self.time}
        whole |= _to_field("key", self.key) | _to_field("value", self.value)
        if self.headers:
            whole["headers"] = [[name, base64.b64encode(value or b"").decode()] for name, value in self.headers]
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> BackupRecord:
        """Read what `line` wrote; raises ValueError or KeyError for anything else."""
        whole = json.loads(line)
        headers = [(name, base64.b64decode(value)) for name, value in whole.get("headers", ())]
        return cls(whole["offset"], whole["time"], _from_field("key", whole), _from_field("value", whole), headers)


def _to_field(name: str, raw: bytes | None) -> dict[str, str]:
    if raw is None:
        return {}
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}64": base64.b64encode(raw).decode()}


def _from_field(name: str, whole: dict[str, Any]) -> bytes | None:
    if name in whole:
        return str(whole[name]).encode()
    return base64.b64decode(whole[f"{name}64"]) if f"{name}64" in whole else None


def _content(record: BackupRecord) -> bytes:
    parts = [record.key, record.value, *(p for name, value in record.headers for p in (name.encode(), value or b""))]
    return b"".join(b"-" if p is None else b"%d:" % len(p) + p for p in parts)


@dataclass
class LogDigest:
    """The digest of a log in which every record and offset counts."""

    _sum: Any = field(default_factory=sha256)

    def add(self, record: BackupRecord) -> None:
        """Add the next record; one that only fills a gap does not count."""
        if not record.fills_gap:
            self._sum.update(b"%d " % record.offset + _content(record))

    def hex(self) -> str:
        """The digest of all records up to here."""
        return str(self._sum.hexdigest())


@dataclass
class StateDigest:
    """The digest of a compacted log: the last record of each key, wherever it stands."""

    _last: dict[bytes, bytes] = field(default_factory=dict)

    def add(self, record: BackupRecord) -> None:
        """Add the next record; it replaces the earlier one of its key."""
        key = sha256(record.key or b"").digest()
        if record.value is None:
            self._last.pop(key, None)
        else:
            self._last[key] = sha256(_content(record)).digest()

    def hex(self) -> str:
        """The digest of the last value of every key."""
        return sha256(b"".join(k + v for k, v in sorted(self._last.items()))).hexdigest()


def digest(compacted: bool) -> LogDigest | StateDigest:
    """The digest that fits a topic."""
    return StateDigest() if compacted else LogDigest()
