"""Random ids are UUIDs, and no process has those of another."""

from __future__ import annotations

import multiprocessing
from multiprocessing.queues import SimpleQueue
from threading import Thread
from uuid import UUID

from everloop_shared.random_ids import random_id


def test_ids_are_uuids_of_version_4_and_differ_in_all_threads() -> None:
    found = list[str]()
    threads = [Thread(target=lambda: found.extend(random_id() for _ in range(1_000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({*found}) == 4_000
    assert {UUID(each).version for each in found} == {4}
    assert all(str(UUID(each)) == each for each in found)


def test_a_forked_process_has_ids_of_its_own() -> None:
    random_id()
    context = multiprocessing.get_context("fork")
    ids: SimpleQueue[list[str]] = context.SimpleQueue()
    child = context.Process(target=lambda: ids.put([random_id() for _ in range(50)]))
    child.start()
    there = ids.get()
    child.join()

    assert not {*there} & {random_id() for _ in range(50)}
