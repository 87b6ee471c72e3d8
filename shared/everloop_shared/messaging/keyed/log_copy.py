"""The copy of a changelog in a storage: values, the index of them, and up to where the changelog is in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from everloop_shared.messaging.keyed.batch_order import TopicOrder
from everloop_shared.messaging.keyed.index import IndexRule, KeyIndex, index_ranges
from everloop_shared.messaging.keyed.restored_names import RestoredNames
from everloop_shared.messaging.keyed.state import (
    Change,
    LogPosition,
    StoredValue,
    is_older,
    key_of,
    storage_key,
    value_of,
)
from everloop_shared.messaging.keyed.storage import MemoryStorage, Storage

APPLIED, ORDER = "", "\n"
"""Two keys per partition are the store's own: up to which offsets records of deleted keys were applied, and in which
order the topics of the last batch were handled."""
OWN_KEYS = frozenset((APPLIED.encode(), ORDER.encode()))
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
        self._names: dict[int, RestoredNames | None] = {}

    def attach(self, storage: Storage) -> None:
        """Use this storage."""
        self.storage = storage
        self._names.clear()
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
        self._names.pop(partition, None)
        self._positions.clear()
        self.index.reset()

    def doubt(self, partitions: Mapping[int, object]) -> None:
        """Records of ours may be on the changelog that are not here; they come again from the sources."""
        self._unsure.update(partitions)

    def trust(self) -> None:
        """The changelog was read to its end."""
        self._unsure.clear()
        self._names.clear()

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

    def restore(self, changes: Iterable[Change], read_to: Mapping[int, LogPosition], left: int) -> None:
        """Apply changes read from the changelog: the newest value per key, which is not always the last one there.

        A write whose ack did not come in time may reach the log after later writes. `read_to` are the positions of the
        last changes, and `left` is how many more there are in their partition, at most.
        """
        changes = list(changes)
        places = {name: partition for partition, name, _ in changes}
        stored = self._stored(places, left)
        newest = dict(stored)
        for _, name, raw in changes:
            known = newest[name]
            if raw is None or known is None or not is_older(raw, known):
                newest[name] = raw
        changed = {name: raw for name, raw in newest.items() if raw != stored[name]}
        index_rows = self.index.rows_between(
            (places[name], key, value_of(stored[name]), value_of(raw))
            for name, raw in changed.items()
            if (key := name.partition(b"|")[2]) not in OWN_KEYS
        )
        self.write(changed | index_rows, read_to)
        self.index.commit()
        self.index.forget_reads()

    def _stored(self, places: Mapping[bytes, int], left: int) -> dict[bytes, bytes | None]:
        """What is stored under these names, by partition; where nothing was before, new names are not asked for."""
        for partition in set(places.values()) - self._names.keys():
            is_empty = next(iter(self.storage.scan(b"%d|" % partition, b"%d|\xff" % partition)), None) is None
            self._names[partition] = RestoredNames(left + len(places)) if is_empty else None
        known = [name for name, p in places.items() if (names := self._names[p]) is None or names.add(name)]
        return dict.fromkeys(places) | dict(zip(known, self.storage.get_many(known), strict=True))

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
