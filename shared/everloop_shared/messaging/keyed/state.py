"""Keyed state as handlers use it, and the form in which values are stored and logged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic_core import from_json, to_json

from everloop_shared.messaging.routes import HEADROOM, MAX_MESSAGE_BYTES, Position

MAX_STATE_BYTES = MAX_MESSAGE_BYTES - HEADROOM
Change = tuple[int, bytes, bytes | None]
"""Partition, key and new value; None is a tombstone."""
Changelog = Callable[[Sequence[Change]], Awaitable[None]]
"""Makes changes durable, in this order within a partition; returns once the broker has all of them."""


class KeyedState(Protocol):
    """A keyed state as handlers use it. Never blocks; a key belongs to the partition of the present record.

    Writes are visible to the following records, and become durable with the batch: first the outputs are published,
    then the state is written, then the offset. So the outputs of a record that `has_applied` are already published.
    """

    def has_applied(self, key: str, at: Position) -> bool:
        """Whether the state of `key` already contains the effect of the record at this position."""

    def get(self, key: str, at: Position) -> bytes | None:
        """The value, None where there is none."""

    def put(self, key: str, value: bytes, at: Position) -> None:
        """Set the value, as of this record; raises InputRejected where it does not fit a record of the changelog."""

    def delete(self, key: str, at: Position) -> None:
        """Delete the key; `has_applied` stays true for its records up to here."""


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

    def is_older_than(self, other: StoredValue) -> bool:
        """Whether the other contains the effect of all records that this one does, and of more."""
        known = other.offsets
        return self.offsets != known and all(known.get(t, -1) >= offset for t, offset in self.offsets.items())


def storage_key(partition: int, key: str) -> bytes:
    """The key under which a value is stored and logged."""
    return f"{partition}|{key}".encode()
