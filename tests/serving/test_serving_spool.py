"""The local spool: how a prediction is stored until it is published."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from tests.builders.running import until
from tests.tasks import cancel

from everloop_schemas.catalogue import decode
from everloop_schemas.envelope import utc_time
from everloop_schemas.ingest import EventReceivedData
from everloop_schemas.serving import ObservationReceived
from everloop_serving.adapters.delivery import deliver_spool, publish_spool
from everloop_serving.adapters.segments import segment_numbers, segment_path
from everloop_serving.adapters.spool import DiskSpool
from everloop_serving.errors import RecordTooLarge, SpoolFull, SpoolUnwritable
from everloop_shared.errors import InputRejected, Misconfigured, Unavailable
from everloop_shared.messaging.routes import EncodedEvent

WRITER = """
import asyncio, sys
from pathlib import Path
from everloop_schemas.envelope import utc_time
from everloop_schemas.ingest import EventReceivedData
from everloop_schemas.serving import ObservationReceived
from everloop_serving.adapters.spool import DiskSpool

async def main():
    async with DiskSpool(Path(sys.argv[1]), limit=10**9, segment_bytes=20_000, fsync=sys.argv[2]) as spool:
        n = 0
        while True:
            data = EventReceivedData(entity="e", fields={"n": n}, received=utc_time(0))
            spool.append([ObservationReceived(id=str(n), time=utc_time(0), subject="e", loop="market", data=data)])
            await spool.synced()
            print(n, flush=True)
            n += 1

asyncio.run(main())
"""


def event(n: int, text: str = "") -> ObservationReceived:
    """The n-th observation."""
    data = EventReceivedData(entity="e", fields={"n": n, "text": text}, received=utc_time(0))
    return ObservationReceived(id=str(n), time=utc_time(0), subject="e", loop="market", data=data)


def spool_in(folder: Path, **options: Any) -> DiskSpool:
    """A spool with small files."""
    return DiskSpool(folder, **{"limit": 1_000_000, "segment_bytes": 2_000} | options)


def ids(spool: DiskSpool) -> list[str]:
    """What is still to be delivered, in order."""
    return [e.id for e in spool.undelivered()]


class Bus:
    """A bus that takes events, unless it is away or refuses some."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.away = False
        self.refuses: set[str] = set()

    async def publish(self, encoded: Sequence[EncodedEvent]) -> None:
        """Take them, all or none."""
        events = [decode(topic, value) for topic, _, value in encoded]
        if self.away:
            raise Unavailable("away")
        if self.refuses & {e.id for e in events}:
            raise InputRejected("too large")
        assert [key for _, key, _ in encoded] == [e.key() for e in events]
        self.taken += [e.id for e in events]


async def test_what_was_published_before_a_restart_is_on_the_disk_still(tmp_path: Path) -> None:
    async with spool_in(tmp_path, segment_bytes=100_000) as spool:
        for n in range(3):
            spool.append([event(n)])
        batch, position = spool.next()
        spool.advance(position, len(batch))

    async with spool_in(tmp_path) as again:
        assert ids(again) == []
        assert [e.id for e in again.stored()] == ["0", "1", "2"]


@pytest.mark.parametrize("fsync", ["none", "always"])
async def test_a_killed_process_loses_nothing_it_has_acknowledged(tmp_path: Path, fsync: str) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), fsync]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(200):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = 200 + len(writer.stdout.read().splitlines())

    async with spool_in(tmp_path) as spool:
        kept = ids(spool)

    assert kept == [str(n) for n in range(len(kept))]
    assert len(kept) - acknowledged in (0, 1)
    assert len(segment_numbers(tmp_path)) > 1


@pytest.mark.parametrize("torn", [1, 5, 100])
async def test_an_incomplete_last_record_is_cut_off_and_writing_goes_on(tmp_path: Path, torn: int) -> None:
    async with spool_in(tmp_path, segment_bytes=100_000) as spool:
        for n in range(3):
            spool.append([event(n)])
    path = segment_path(tmp_path, 0)
    os.truncate(path, path.stat().st_size - torn)

    async with spool_in(tmp_path, segment_bytes=100_000) as spool:
        spool.append([event(3)])
        kept = ids(spool)

    assert kept == ["0", "1", "3"]


async def test_records_are_delivered_in_order_and_their_files_deleted(tmp_path: Path) -> None:
    bus = Bus()
    bus.away = True
    async with spool_in(tmp_path) as spool:
        job = asyncio.create_task(publish_spool(spool, bus.publish))
        for n in range(50):
            spool.append([event(n)])
            await asyncio.sleep(0)
        before = (spool.record_count, len(segment_numbers(tmp_path)))

        bus.away = False
        await until(lambda: len(bus.taken) == 50 and spool.record_count == 0)
        await cancel(job)

        assert bus.taken == [str(n) for n in range(50)]
        assert before[0] == 50
        assert before[1] > 3
        assert len(segment_numbers(tmp_path)) == 1
        assert spool.bytes == 0


@pytest.mark.parametrize("tail_bytes", [0, 1_500, 4_000_000])
async def test_records_come_from_memory_or_from_disk_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail_bytes: int
) -> None:
    monkeypatch.setattr("everloop_serving.adapters.spool.TAIL_BYTES", tail_bytes)
    taken: list[str] = []
    async with spool_in(tmp_path) as spool:
        for n in range(60):
            spool.append([event(n), event(1_000 + n)])
            if n % 7 == 6:
                batch, position = spool.next()
                taken += [decode(topic, value).id for events in batch for topic, _, value in events]
                spool.advance(position, len(batch))
        while spool.record_count:
            batch, position = spool.next()
            taken += [decode(topic, value).id for events in batch for topic, _, value in events]
            spool.advance(position, len(batch))

        assert (spool.bytes, spool.next()[0]) == (0, [])
    assert taken == [str(n + more) for n in range(60) for more in (0, 1_000)]


async def test_a_restart_goes_on_after_what_was_published(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool:
        for n in range(20):
            spool.append([event(n)])
        batch, position = spool.next()
        spool.advance(position, len(batch))

    async with spool_in(tmp_path) as again:
        kept, count = ids(again), again.record_count

    assert 0 < len(batch) < 20
    assert kept == [str(n) for n in range(len(batch), 20)]
    assert count == len(kept)


async def test_records_of_earlier_releases_are_delivered_before_new_ones(tmp_path: Path) -> None:
    bus = Bus()
    old = [b"\n".join([event(n).encode(), event(n + 1).encode()]) for n in (0, 2)]
    packed = [len(r).to_bytes(4, "big") + crc32(r).to_bytes(4, "big") + r for r in old]
    segment_path(tmp_path, 0).write_bytes(b"".join(packed))
    async with spool_in(tmp_path) as spool:
        before = (spool.record_count, ids(spool))
        spool.append([event(4), event(5)])

        job = asyncio.create_task(publish_spool(spool, bus.publish))
        await until(lambda: spool.record_count == 0)
        await cancel(job)

    assert before == (2, ["0", "1", "2", "3"])
    assert bus.taken == ["0", "1", "2", "3", "4", "5"]


async def test_an_event_that_the_bus_refuses_for_good_does_not_hold_up_the_others(tmp_path: Path) -> None:
    bus = Bus()
    bus.refuses = {"1"}
    async with spool_in(tmp_path) as spool:
        for n in range(3):
            spool.append([event(n)])

        job = asyncio.create_task(publish_spool(spool, bus.publish))
        await until(lambda: spool.record_count == 0)
        await cancel(job)

    assert bus.taken == ["0", "2"]


async def test_a_stop_waits_until_the_spool_is_published_and_no_longer_than_it_may(tmp_path: Path) -> None:
    bus = Bus()
    bus.away = True
    async with spool_in(tmp_path) as spool:
        spool.append([event(0)])
        job = asyncio.create_task(deliver_spool(spool, bus.publish, drain_s=30.0))
        await asyncio.sleep(0)
        job.cancel()
        bus.away = False
        await asyncio.wait([job], timeout=10)
        taken, left = list(bus.taken), spool.record_count

        bus.away = True
        spool.append([event(1)])
        again = asyncio.create_task(deliver_spool(spool, bus.publish, drain_s=0.05))
        await asyncio.sleep(0)
        again.cancel()
        await asyncio.wait([again], timeout=10)

    assert (taken, left) == (["0"], 0)
    assert (job.cancelled(), again.cancelled()) == (True, True)
    assert bus.taken == ["0"]
    async with spool_in(tmp_path) as next_process:
        assert ids(next_process) == ["1"]


async def test_a_damaged_file_loses_its_rest_and_no_other_file(tmp_path: Path) -> None:
    bus = Bus()
    async with spool_in(tmp_path) as spool:
        for n in range(20):
            spool.append([event(n)])
    path = segment_path(tmp_path, 0)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0xFF
    path.write_bytes(body)

    async with spool_in(tmp_path) as again:
        job = asyncio.create_task(publish_spool(again, bus.publish))
        await until(lambda: "19" in bus.taken)
        await cancel(job)

    assert bus.taken == sorted(bus.taken, key=int)
    assert 12 < len(bus.taken) < 20
    assert path.with_suffix(".torn").exists()


async def test_a_full_spool_refuses_until_records_are_published(tmp_path: Path) -> None:
    async with spool_in(tmp_path, limit=3_000) as spool:
        while spool.bytes < 2_600:
            spool.append([event(1)])
        with pytest.raises(SpoolFull):
            spool.append([event(2), event(3)])
        held = spool.bytes
        while (batch := spool.next())[0]:
            spool.advance(batch[1], len(batch[0]))

        spool.append([event(100)])

        assert held <= 3_000
        assert ids(spool) == ["100"]


async def test_an_event_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with spool_in(tmp_path, event_bytes=1_000) as spool:
        with pytest.raises(RecordTooLarge):
            spool.append([event(1), event(2, "x" * 1_000)])

        assert spool.bytes == 0


async def test_a_disk_that_takes_half_a_record_refuses_and_stores_none_of_it(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool:
        spool.append([event(0)])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (spool.bytes + 10, hard))  # the kernel writes 10 bytes, then none
            with pytest.raises(SpoolUnwritable):
                spool.append([event(1)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        spool.append([event(2)])

        assert ids(spool) == ["0", "2"]


async def test_one_process_at_a_time_uses_a_spool(tmp_path: Path) -> None:
    async with spool_in(tmp_path):
        with pytest.raises(Misconfigured, match="in use"):
            await spool_in(tmp_path).__aenter__()


async def test_many_requests_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def counting(descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    async def keep(spool: DiskSpool, n: int) -> None:
        spool.append([event(n)])
        await spool.synced()

    monkeypatch.setattr(os, "fsync", counting)
    async with spool_in(tmp_path, fsync="always", segment_bytes=1_000_000) as spool:
        await asyncio.gather(*(keep(spool, n) for n in range(100)))
        shared = len(synced)

    assert 1 <= shared < 10
