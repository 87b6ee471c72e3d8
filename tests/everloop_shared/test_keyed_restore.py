"""Restoring from a changelog by the batch: the newest value of each key, and the index of exactly these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from everloop_shared.messaging.keyed.disk import DiskStorage
from everloop_shared.messaging.keyed.index import Entry, Total
from everloop_shared.messaging.keyed.restored_names import RestoredNames
from everloop_shared.messaging.keyed.state import Change, LogPosition, StoredValue, storage_key
from everloop_shared.messaging.keyed.storage import MemoryStorage, Storage
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.memory import MemoryBroker

KEYS = ["a/0", "a/1", "b/0", "b/1", ""]
PARTITIONS = (0, 1)
AT = LogPosition(100, 1_000, 2_000)


class Asked(MemoryStorage):
    """Counts the names that were asked for."""

    asked = 0

    def get_many(self, names: Sequence[bytes]) -> Sequence[bytes | None]:
        self.asked += len(names)
        return super().get_many(names)


def entries(key: str, value: bytes) -> Sequence[Entry]:
    """A value is its order; the group is what comes before the slash."""
    return [Entry("t", key[0], int(value), 10 + int(value))]


def store_on(storage: Storage) -> KeyedStore:
    store = KeyedStore("s", rule=entries)
    store.attach(MemoryBroker(1).engine("s"), storage)
    return store


def change(partition: int, key: str, offset: int, order: int | None) -> Change:
    """A record of the changelog: a value with the offset that it contains, or a tombstone."""
    raw = None if order is None else StoredValue({"t": offset}, b"%d" % order).encode()
    return partition, storage_key(partition, key), raw


def newest(changes: Sequence[Change]) -> dict[bytes, tuple[int, bytes]]:
    """What is left of a changelog: the values with the highest offsets since the last tombstones."""
    left: dict[bytes, tuple[int, bytes]] = {}
    for _, name, raw in changes:
        if raw is None:
            left.pop(name, None)
            continue
        stored = StoredValue.decode(raw)
        if name not in left or stored.offsets["t"] >= left[name][0]:
            left[name] = stored.offsets["t"], stored.value or b""
    return left


logs = st.lists(
    st.builds(
        change, st.sampled_from(PARTITIONS), st.sampled_from(KEYS), st.integers(0, 9), st.none() | st.integers(0, 9)
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(changes=logs, batch=st.integers(1, 12), interrupted=st.integers(0, 40), on_disk=st.booleans())
async def test_values_and_index_are_those_of_the_newest_values_wherever_a_session_ended_and_however_batches_fall(
    changes: list[Change], batch: int, interrupted: int, on_disk: bool
) -> None:
    with TemporaryDirectory() as folder:
        storage: Storage = MemoryStorage()
        if on_disk:
            storage = disk = DiskStorage(Path(folder) / "db", "1")
            disk.open()
        for part in (changes[:interrupted], changes[max(0, interrupted - 3) :]):
            store = store_on(storage)
            for first in range(0, len(part), batch):
                store.restore(part[first : first + batch], {p: AT for p, _, _ in part}, left=len(part) - first)
            store.finish_restore(PARTITIONS)

        read_again = [*changes[:interrupted], *changes[max(0, interrupted - 3) :]]
        left = {
            (p, name.decode().partition("|")[2]): value
            for name, (_, value) in newest(read_again).items()
            for p in PARTITIONS
            if name.startswith(b"%d|" % p)
        }
        found = {(p, key): value for p, key, value in store.items()}
        assert found == {place: value for place, value in left.items() if place[1]}
        for p in PARTITIONS:
            for group in "ab":
                mine = [(int(v), key) for (at, key), v in found.items() if at == p and key.startswith(group)]
                assert store.index.keys(p, "t", group, 99) == [key for _, key in sorted(mine)]
                total = store.index.groups(p, "t").get(group, Total())
                assert total == Total(len(mine), sum(10 + order for order, _ in mine))
        if on_disk:
            disk.close()


def test_a_partition_that_is_read_from_nothing_is_asked_for_keys_that_came_before_only() -> None:
    storage = Asked()
    store = store_on(storage)
    log = [change(0, f"a/{n}", n, n) for n in range(1_000)]

    for first in range(0, 1_000, 100):
        store.restore(log[first : first + 100], left=900 - first)
    assert storage.asked <= 20

    store.restore([change(0, "a/7", 8, 99), change(0, "a/8", 3, 99)], left=0)
    assert storage.asked >= 2
    assert [store.find(f"a/{n}", 0) for n in (7, 8)] == [b"99", b"8"], "the second is older than what is known"


def test_a_partition_of_which_something_is_stored_is_asked_for_every_key() -> None:
    storage = Asked()
    store_on(storage).restore([change(0, "a/1", 5, 1)])
    storage.asked = 0
    store = store_on(storage)

    store.restore([change(0, "a/1", 3, 2), change(0, "a/2", 6, 3)])

    assert storage.asked == 2
    assert [store.find(f"a/{n}", 0) for n in (1, 2)] == [b"1", b"3"]


def test_a_name_that_was_added_is_never_taken_for_a_new_one_and_few_new_ones_for_known() -> None:
    names = RestoredNames(10_000)
    new = [names.add(b"0|l/e%d" % n) for n in range(10_000)]
    again = [names.add(b"0|l/e%d" % n) for n in range(10_000)]

    assert all(again)
    assert sum(new) < 200


def test_loading_many_and_going_on_keeps_what_is_stored(tmp_path: Path) -> None:
    disk = DiskStorage(tmp_path / "db", "1")
    disk.open()
    disk.load(True)
    for n in range(50):
        disk.write({b"%d" % n: b"x" * 100_000})
    disk.load(False)

    assert disk.get_many([b"0", b"none", b"49"]) == [b"x" * 100_000, None, b"x" * 100_000]
    disk.close()
