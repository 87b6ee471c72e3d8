"""Other threads run while a large model is loaded and freed."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import time
import weakref
from typing import Any

from everloop_models.allow_list import Allowed
from everloop_models.pickling import unpickled
from everloop_models.slices import dismantle

ITEMS = 300_000
PLAIN = Allowed("list", frozenset())


class _Watch(threading.Thread):
    """Does something else all the time, as an event loop would; counts its turns."""

    def __init__(self) -> None:
        super().__init__()
        self.turns, self._ended = 0, threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            time.sleep(0.0002)
            self.turns += 1

    def end(self) -> None:
        self._ended.set()
        self.join()


def _watched(work: Any) -> tuple[Any, _Watch]:
    """The result of work in a thread of its own, and what another thread noticed of it."""
    found, watch = list[Any](), _Watch()
    watch.start()
    worker = threading.Thread(target=lambda: found.append(work()))
    worker.start()
    worker.join()
    watch.end()
    return found[0], watch


def _data() -> bytes:
    return pickle.dumps([[n, {"a": float(n)}] for n in range(ITEMS)], protocol=5)


def test_another_thread_has_its_turns_while_a_pickle_is_loaded() -> None:
    data = _data()
    frames = len(data) // 64_000

    loaded, watch = _watched(lambda: unpickled(data, PLAIN))

    assert len(loaded) == ITEMS
    assert loaded[-1] == [ITEMS - 1, {"a": float(ITEMS - 1)}]
    assert watch.turns > frames / 2


def test_another_thread_has_its_turns_while_a_model_is_freed() -> None:
    owners: list[object] = [unpickled(_data(), PLAIN)]

    _, watch = _watched(lambda: dismantle(owners))

    assert owners == []
    assert watch.turns > ITEMS / 10_000


def test_garbage_collection_is_as_it_was_after_a_load() -> None:
    unpickled(pickle.dumps([1], protocol=5), PLAIN)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        unpickled(pickle.dumps([1], protocol=5), PLAIN)
        is_enabled = gc.isenabled()
    finally:
        gc.enable()

    assert was_enabled
    assert not is_enabled


class _Part:
    def __init__(self, *parts: Any) -> None:
        self.parts = list(parts)


def test_what_is_reached_twice_is_freed_once_and_what_others_hold_stays() -> None:
    shared, kept = _Part(_Part()), _Part()
    before = sys.getrefcount(kept)
    owners: list[object] = [_Part(shared, shared, kept), _Part(shared)]
    inside = weakref.ref(shared.parts[0])
    del shared

    dismantle(owners)

    assert inside() is None
    assert sys.getrefcount(kept) == before
