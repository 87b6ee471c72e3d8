"""Keyed state on disk: what a kill, a full disk, a corrupt file or another format leave of it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from everloop_shared.errors import Unavailable
from everloop_shared.messaging.faust.recovery import CLOCK_TOLERANCE_MS, TOMBSTONES_KEPT_MS, why_not_of_this_log
from everloop_shared.messaging.keyed.disk import DiskStorage
from everloop_shared.messaging.keyed.state import Change, LogPosition
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position

WRITER = """
import sys
from pathlib import Path
from everloop_shared.messaging.keyed.disk import DiskStorage
disk, n = DiskStorage(Path(sys.argv[1]), "1"), 0
disk.open()
while True:
    n += 1
    disk.write({b"%d" % i: b"%d " % n + b"x" * 1000 for i in range(20)})
    print(n, flush=True)
"""

BUFFERED = """
import os, random, sys, time
from pathlib import Path
from everloop_shared.messaging.keyed.disk import DiskStorage

def kept():
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident - sum(disk.buffered_bytes for disk in disks)

disks = [DiskStorage(Path(sys.argv[1]) / name, "1") for name in "ab"]
for disk in disks:
    disk.open()
before, deadline = kept(), time.monotonic() + 20
for n in range(600):
    for disk in disks[: 1 + (n % 3 == 0)]:
        disk.write({b"%d" % random.randrange(300): os.urandom(1_000) for _ in range(100)})
while kept() - before > 8_000_000 and time.monotonic() < deadline:  # the last file may be in the making
    time.sleep(0.1)
print(kept() - before)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "state"


@contextmanager
def opened(folder: Path, layout: str = "1") -> Iterator[DiskStorage]:
    """A database, closed in the end."""
    disk = DiskStorage(folder, layout)
    disk.open()
    try:
        yield disk
    finally:
        disk.close()


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process can grow: as on a full disk, writing fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_after_a_kill_every_write_is_there_whole(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(2_000)]
        writer.kill()

    with opened(folder) as disk:
        found = {int(value.split()[0]) for _, value in disk.scan(b"0", b":")}

    assert len(found) == 1
    assert found.pop() >= acknowledged[-1]


def test_a_deleted_folder_is_an_empty_state(folder: Path) -> None:
    with opened(folder) as disk:
        disk.write({b"1": b"a", b"2": b"b"})
        disk.delete_range(b"2", b"3")
    with opened(folder) as disk:
        assert (disk.get(b"1"), disk.get(b"2")) == (b"a", None)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()

    with opened(folder) as disk:
        assert disk.get(b"1") is None


@pytest.mark.parametrize("kind", ["MANIFEST", "CURRENT"])
def test_a_corrupt_database_is_deleted_with_a_line_in_the_log(
    folder: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(folder) as disk:
        disk.write({b"1": b"a"})
    [file] = folder.glob(f"{kind}*")
    file.write_bytes(b"nothing of use" * 10)

    with opened(folder) as disk:
        assert disk.get(b"1") is None

    assert "deleted and read from the changelog again" in caplog.text


def test_what_turns_out_to_be_corrupt_later_is_deleted_at_the_next_start(folder: Path) -> None:
    with opened(folder) as disk:
        disk.write({b"%05d" % n: os.urandom(500) for n in range(5_000)})
    with opened(folder) as disk:  # which moves its log into a table
        disk.write({b"1": b"a"})
    largest = max(folder.glob("*.sst"), key=lambda file: file.stat().st_size)
    with largest.open("r+b") as table:
        table.write(b"\xff" * 100_000)

    with opened(folder) as disk, pytest.raises(Unavailable, match="corrupt"):
        list(disk.scan(b"0", b":"))

    with opened(folder) as disk:
        assert list(disk.scan(b"0", b":")) == []


def test_a_database_of_another_layout_is_deleted(folder: Path) -> None:
    with opened(folder) as disk:
        disk.write({b"1": b"a"})

    with opened(folder, layout="2") as disk:
        assert disk.get(b"1") is None


def test_a_database_that_another_process_has_open_is_left_alone(folder: Path) -> None:
    with opened(folder) as disk:
        disk.write({b"1": b"a"})

        with pytest.raises(Unavailable, match="cannot be opened"):
            DiskStorage(folder, "1").open()

        assert disk.get(b"1") == b"a"


async def test_while_the_disk_is_full_units_fail_and_afterwards_nothing_is_missing(folder: Path) -> None:
    log: list[Change] = []

    async def changelog(changes: list[Change]) -> dict[int, int]:
        log.extend(changes)
        return {0: len(log) - 1}

    store = KeyedStore("s")

    async def count(offset: int) -> None:
        async with store:
            at = Position("t", 0, offset)
            if not store.has_applied("k", at):
                store.put("k", b"%d" % (int(store.get("k", at) or b"0") + 1), at)
                store.put(f"filler/{offset}", b"x" * 5_000, at)

    with opened(folder) as disk:
        store.attach(MemoryBroker(1).engine("s"), disk, changelog)  # type: ignore[arg-type]
        await count(0)
        with no_room():
            for _ in range(3):
                with pytest.raises(Unavailable, match="cannot be"):
                    await count(1)
        assert disk.failure

        for offset in (1, 1, 2):
            await count(offset)

        assert store.find("k", 0) == b"3"
        assert not disk.failure
    with opened(folder) as disk:
        store.attach(MemoryBroker(1).engine("s"), disk)
        position = store.position(0)
        assert position is not None
        assert (store.find("k", 0), position.offset) == (b"3", len(log) - 1)


async def test_a_record_that_another_replica_wrote_in_between_is_read_at_the_next_start(folder: Path) -> None:
    """A process that was frozen may write once more before it knows that its partitions have another owner."""
    offsets = iter([0, 1, 3, 4])

    async def changelog(changes: list[Change]) -> dict[int, int]:
        return {0: next(offsets)}

    store = KeyedStore("s")
    with opened(folder) as disk:
        store.attach(MemoryBroker(1).engine("s"), disk, changelog)  # type: ignore[arg-type]
        for n in range(4):
            async with store:
                store.put(f"k{n}", b"1", Position("t", 0, n))

        position = store.position(0)

    assert position is not None
    assert position.offset == 1


AT = LogPosition(offset=100, latest_ms=5_000, written_ms=6_000)


class Later:
    """The first record that is later than the state."""

    def __init__(self, offset: int) -> None:
        self.offset = offset


def test_a_state_is_only_continued_by_its_own_log() -> None:
    old = 6_000 + TOMBSTONES_KEPT_MS + 1

    assert why_not_of_this_log(AT, 100, None, now_ms=old) is None
    assert why_not_of_this_log(AT, 150, Later(101), now_ms=7_000) is None
    assert "ends at 99" in (why_not_of_this_log(AT, 99, None, now_ms=7_000) or "")
    assert "later than that" in (why_not_of_this_log(AT, 150, Later(3), now_ms=7_000) or "")
    assert "all deletions" in (why_not_of_this_log(AT, 150, Later(101), now_ms=old) or "")
    assert CLOCK_TOLERANCE_MS > 0


async def test_only_the_named_partition_is_forgotten(folder: Path) -> None:
    with opened(folder) as disk:
        store = KeyedStore("s")
        store.attach(MemoryBroker(1).engine("s"), disk)
        store.restore([(p, b"%d|k" % p, b'{"t":1}\n1') for p in (1, 11, 2)], {1: AT, 11: AT, 2: AT})

        store.forget(1)

        assert [(p, key) for p, key, _ in store.items()] == [(11, "k"), (2, "k")]
        assert [store.position(p) for p in (1, 11, 2)] == [None, AT, AT]


def test_what_is_not_in_a_file_yet_is_counted_until_the_database_is_closed(folder: Path) -> None:
    with opened(folder) as disk:
        before = disk.buffered_bytes
        disk.write({b"%d" % n: os.urandom(1_000) for n in range(3_000)})

        counted = disk.buffered_bytes - before

    assert 3_000_000 <= counted < 5_000_000
    assert disk.buffered_bytes == 0


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory a process has")
def test_memory_of_what_is_in_files_is_given_back_to_the_system(folder: Path) -> None:
    command = [sys.executable, "-c", BUFFERED, str(folder)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert int(done.stdout) < 8_000_000
