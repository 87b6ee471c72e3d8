"""The copy of a changelog in a storage: values, the index of them, and up to where the changelog is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from everloop_shared.messaging.keyed.batch_order import TopicOrder
from everloop_shared.messaging.keyed.index import IndexRule, KeyIndex, index_ranges
from everloop_shared.messaging.keyed.state import LogPosition, StoredValue, key_of, storage_key
from everloop_shared.messaging.keyed.storage import MemoryStorage, Storage

APPLIED, ORDER = "", "\n"
"""Two keys per partition are the store's own: up to which offsets records of deleted keys were applied, and in which
order the topics of the last batch were handled."""
POSITION = b"#o|%d"
"""The name of the row that says up to where the changelog of a partition is in the storage."""


class LogCopy:
    """What was committed. Values, index and positions are written together."""

    def __init__(self, rule: IndexRule | None) -> None:
        self.storage: Storage = MemoryStorage()
        self.index = KeyIndex(rule)
        self.index.attach(self.storage)
        self._positions: dict[int, LogPosition | None] = {}
        self._unsure: set[int] = set()

    def attach(self, storage: Storage) -> None:
        """Use this storage."""
        self.storage = storage
        self._positions.clear()
        self.index.attach(storage)

    def position(self, partition: int) -> LogPosition | None:
        """Up to where the changelog of a partition is in the storage; None where nothing is known of it."""
        if partition not in self._positions:
            raw = self.storage.get(POSITION % partition)
            self._positions[partition] = LogPosition.decode(raw) if raw else None
        return self._positions[partition]

    def forget(self, partition: int) -> None:
        """Delete what the storage has of a partition: the changelog is read from its beginning."""
        self.storage.write({POSITION % partition: None})
        for start in (b"%d|" % partition, *index_ranges(partition)):
            self.storage.delete_range(start, start + b"\xff")
        self._positions.clear()
        self.index.reset()

    def doubt(self, partitions: Mapping[int, object]) -> None:
        """Records of ours may be on the changelog that are not here; they come again from the sources."""
        self._unsure.update(partitions)

    def trust(self) -> None:
        """The changelog was read to its end."""
        self._unsure.clear()

    def continues(self, partition: int, before: int) -> bool:
        """Whether what follows offset `before` continues this copy: no record of another replica lies in between.

        If one did, because we wrote without owning the partition any more, the position must stay where it is.
        """
        known = self.position(partition)
        return partition in self._unsure or before == (known.offset if known else -1)

    def write(self, rows: dict[bytes, bytes | None], read_to: Mapping[int, LogPosition]) -> None:
        """Write rows, and that all is here up to these positions."""
        positions = {partition: position.after(self.position(partition)) for partition, position in read_to.items()}
        rows |= {POSITION % partition: position.encode() for partition, position in positions.items()}
        try:
            if rows:
                self.storage.write(rows)
        except BaseException:
            self.doubt(positions)
            raise
        self._positions |= positions

    def get(self, partition: int, key: str) -> StoredValue | None:
        """What is stored of a key."""
        raw = self.storage.get(storage_key(partition, key))
        return StoredValue.decode(raw) if raw else None

    def order(self, partition: int) -> TopicOrder:
        """In which order the topics of the last batch were handled."""
        stored = self.get(partition, ORDER)
        return list(stored.offsets.items()) if stored else []

    def keys(self, partition: int, prefix: str, after: str, most: int) -> list[str]:
        """The next committed keys that begin with a prefix, and come after this one, in their order."""
        start = max(storage_key(partition, prefix), storage_key(partition, after) + b"\0")
        rows = self.storage.scan(start, storage_key(partition, prefix) + b"\xff")
        return [key_of(name) for name, _ in islice(rows, most)]

    def prefixes(self, partition: int) -> Iterator[str]:
        """With which words before a slash committed keys begin."""
        start, stop = storage_key(partition, "\x20"), b"%d|\xff" % partition
        while found := next(iter(self.storage.scan(start, stop)), None):
            prefix = key_of(found[0]).partition("/")[0]
            yield prefix
            start = storage_key(partition, f"{prefix}/") + b"\xff"

    def items(self) -> Iterator[tuple[int, str, bytes]]:
        """Partition, key and value of everything committed."""
        for name, raw in self.storage.scan(b"0", b":"):
            partition, key = int(name.partition(b"|")[0]), key_of(name)
            value = StoredValue.decode(raw).value
            if value is not None and key not in (APPLIED, ORDER):
                yield partition, key, value
