"""The index of a keyed store: its order and its totals, over everything written, changed and undone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everloop_shared.messaging.keyed import index as keyed_index
from everloop_shared.messaging.keyed.disk import DiskStorage
from everloop_shared.messaging.keyed.index import Entry
from everloop_shared.messaging.keyed.storage import MemoryStorage, Storage
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position

KEYS = ["a/0", "a/1", "b/0", "b/1", "b/2"]


class Undone(Exception):
    """What a unit of work is undone by."""


def entries(key: str, value: bytes) -> Sequence[Entry]:
    """A value is the order and the size of its key; the group is what comes before the slash."""
    order, size = value.split()
    return [Entry("t", key[0], int(order), int(size))]


def new_store(storage: Storage) -> KeyedStore:
    store = KeyedStore("s", rule=entries)
    store.attach(MemoryBroker(1).engine("s"), storage)
    return store


@pytest.fixture(scope="module", params=["memory", "disk"])
def storages(request: pytest.FixtureRequest) -> Iterator[Iterator[Storage]]:
    """Empty storages, as many as are wanted."""
    with TemporaryDirectory() as folder:
        opened: list[DiskStorage] = []

        def on_disk() -> Iterator[Storage]:
            for n in count():
                disk = DiskStorage(Path(folder) / str(n), "1")
                disk.open()
                opened.append(disk)
                yield disk
                disk.close()

        yield on_disk() if request.param == "disk" else (MemoryStorage() for _ in count())
        for disk in opened:
            disk.close()


steps = st.lists(
    st.tuples(st.sampled_from(KEYS), st.integers(0, 9), st.integers(1, 9), st.sampled_from("ppdcu")), max_size=40
)


@settings(max_examples=60)
@given(steps=steps, now=st.integers(0, 9), ahead=st.integers(1, 3))
async def test_order_and_totals_are_those_of_the_values_whatever_is_put_deleted_committed_and_undone(
    storages: Iterator[Storage], steps: list[tuple[str, int, int, str]], now: int, ahead: int
) -> None:
    storage = next(storages)
    store, known = new_store(storage), dict[str, tuple[int, int]]()
    before, keyed_index.READ_AHEAD = keyed_index.READ_AHEAD, ahead
    units = [list[tuple[str, int, int, str]]()]
    for step in steps:
        units[-1].append(step)
        if step[3] in "cu":
            units.append([])
    try:
        for unit in units:
            changed = dict(known)
            try:
                async with store:
                    for n, (key, order, size, what) in enumerate(unit):
                        if what == "d":
                            store.delete(key, Position("t", 0, n))
                            changed.pop(key, None)
                        else:
                            store.put(key, b"%d %d" % (order, size), Position("t", 0, n))
                            changed[key] = order, size
                        _check(store, changed, now)
                    if unit and unit[-1][3] == "u":
                        raise Undone
                known = changed
            except Undone:
                pass
            _check(store, known, now)
        _check(new_store(storage), known, now)
    finally:
        keyed_index.READ_AHEAD = before


def _check(store: KeyedStore, known: dict[str, tuple[int, int]], now: int) -> None:
    """Compare with a recount."""
    assert store.index.total(0, "t") == (len(known), sum(size for _, size in known.values()))
    for group in "ab":
        orders = {key: order for key, (order, _) in known.items() if key[0] == group}
        keys = store.index.keys(0, "t", group, 100)
        assert sorted(keys) == sorted(orders)
        assert [orders[key] for key in keys] == sorted(orders.values())
        assert store.index.keys(0, "t", group, 100, now) == [key for key in keys if orders[key] <= now]
        assert (store.index.first(0, "t", group) in orders) == bool(orders)
        assert (group in store.index.groups(0, "t")) == bool(orders)


async def test_the_first_key_of_what_is_stored_is_given_again_and_again_until_it_is_gone() -> None:
    store, most = new_store(MemoryStorage()), 2 * keyed_index.READ_AHEAD + 10
    async with store:
        for n in range(most):
            store.put(f"a/{n}", b"%d 1" % n, Position("t", 0, n))

    gone = []
    async with store:
        while (key := store.index.first(0, "t", "a")) is not None:
            store.delete(key, Position("t", 0, most))
            gone.append(key)

    assert gone == [f"a/{n}" for n in range(most)]


async def test_a_key_that_comes_before_those_read_ahead_is_found() -> None:
    store = new_store(MemoryStorage())
    async with store:
        store.put("a/0", b"5 1", Position("t", 0, 0))
        store.put("a/1", b"7 1", Position("t", 0, 0))
    assert store.index.first(0, "t", "a") == "a/0"

    async with store:
        store.put("a/2", b"2 1", Position("t", 0, 1))

    assert store.index.first(0, "t", "a") == "a/2"


async def test_keys_and_their_prefixes_are_found_without_reading_all() -> None:
    store = new_store(MemoryStorage())
    async with store:
        for key in ("ab/1", "a/1", "a/2", "a/3", "b/1"):
            store.put(key, b"0 1", Position("t", 0, 0))

    assert list(store.prefixes(0)) == ["a", "ab", "b"]
    assert store.keys(0, "a/", "", 2) == ["a/1", "a/2"]
    assert store.keys(0, "a/", "a/2", 2) == ["a/3"]
