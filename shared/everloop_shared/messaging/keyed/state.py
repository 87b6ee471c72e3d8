"""The form in which the values of a keyed state are stored and logged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic_core import from_json, to_json

from everloop_shared.messaging.routes import HEADROOM, MAX_MESSAGE_BYTES

MAX_STATE_BYTES = MAX_MESSAGE_BYTES - HEADROOM
Change = tuple[int, bytes, bytes | None]
"""Partition, key and new value; None is a tombstone."""
Changelog = Callable[[Sequence[Change]], Awaitable[Mapping[int, int]]]
"""Makes changes durable, in this order within a partition; returns, once the broker has all of them, the offset of the
last one in each partition."""


class LogPosition(NamedTuple):
    """Up to which record of a changelog partition a storage is complete, in offsets and milliseconds.

    No record up to `offset` is newer than `latest_ms`; the storage was written at `written_ms`.
    """

    offset: int
    latest_ms: int
    written_ms: int

    def after(self, before: LogPosition | None) -> LogPosition:
        """This position, where the storage was at `before`."""
        if before is None:
            return self
        return LogPosition(*map(max, before, self))

    def encode(self) -> bytes:
        """The bytes that are stored."""
        return b"%d %d %d" % self

    @classmethod
    def decode(cls, raw: bytes) -> LogPosition:
        """The position of stored bytes."""
        return cls(*map(int, raw.split()))


@dataclass(frozen=True)
class StoredValue:
    """A value, None once it was deleted, with the last offset of each topic whose records it contains."""

    offsets: dict[str, int]
    value: bytes | None

    def encode(self) -> bytes:
        """The bytes that are stored and logged."""
        head = to_json(self.offsets)
        return head if self.value is None else head + b"\n" + self.value

    @classmethod
    def decode(cls, raw: bytes) -> StoredValue:
        """The value of stored bytes."""
        head, separator, value = raw.partition(b"\n")
        return cls(from_json(head), value if separator else None)


def is_older(raw: bytes, known: bytes) -> bool:
    """Whether stored bytes, `known`, contain the effect of all records that other ones do, and of more."""
    head, known_head = raw.partition(b"\n")[0], known.partition(b"\n")[0]
    if head == known_head:
        return False
    offsets, known_offsets = from_json(head), from_json(known_head)
    return offsets != known_offsets and all(known_offsets.get(t, -1) >= offset for t, offset in offsets.items())


def value_of(raw: bytes | None) -> bytes | None:
    """The value in stored bytes, None once it was deleted."""
    if raw is None:
        return None
    _, separator, value = raw.partition(b"\n")
    return value if separator else None


def storage_key(partition: int, key: str) -> bytes:
    """The key under which a value is stored and logged."""
    return f"{partition}|{key}".encode()


def key_of(name: bytes) -> str:
    """The key of a value's name."""
    return name.partition(b"|")[2].decode()
