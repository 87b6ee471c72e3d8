"""Keyed state as handlers use it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from everloop_shared.messaging.keyed.index import KeyIndex
from everloop_shared.messaging.routes import Position


class KeyedState(Protocol):
    """A keyed state as handlers use it; a key belongs to the partition of the present record.

    `index` orders its keys. It blocks no longer than a disk does, and raises Unavailable where that fails. Writes are
    visible to the following records, and become durable with the batch: first the outputs are published, then the
    state is written, then the offset. So the outputs of a record that `has_applied` are already published.
    """

    index: KeyIndex

    def has_applied(self, key: str, at: Position) -> bool:
        """Whether the state of `key` already contains the effect of the record at this position."""

    def get(self, key: str, at: Position) -> bytes | None:
        """The value, None where there is none."""

    def put(self, key: str, value: bytes, at: Position) -> None:
        """Set the value, as of this record; raises InputRejected where it does not fit a record of the changelog."""

    def delete(self, key: str, at: Position) -> None:
        """Delete the key; `has_applied` stays true for its records up to here."""

    def applied(self, key: str, at: Position) -> int:
        """The highest offset of a record that the state of `key` contains, -1 where it has none."""

    def keys(self, partition: int, prefix: str, after: str, most: int) -> list[str]:
        """The next committed keys that begin with a prefix, and come after this one, in their order."""

    def prefixes(self, partition: int) -> Iterator[str]:
        """With which words before a slash committed keys begin."""
