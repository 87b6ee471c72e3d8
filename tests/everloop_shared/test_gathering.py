"""When a batch waits for more."""

from __future__ import annotations

import asyncio

import pytest

from everloop_shared.messaging.processing.gathering import BatchGathering


@pytest.mark.parametrize(
    ("last_batch", "waits"),
    [(0, False), (1, False), (3, False), (4, True), (49, True), (50, False), (100, False)],
)
async def test_a_batch_waits_for_more_when_the_last_one_was_neither_alone_nor_half_full(
    last_batch: int, waits: bool
) -> None:
    gathering = BatchGathering(gather_ms=20, batch_size=100)
    gathering.record_batch(last_batch)

    pause = asyncio.create_task(gathering.pause())
    await asyncio.sleep(0)

    assert pause.done() is not waits
    await pause


async def waits(gathering: BatchGathering) -> bool:
    """Whether the next batch waits."""
    pause = asyncio.create_task(gathering.pause())
    await asyncio.sleep(0)
    done = pause.done()
    await pause
    return not done


@pytest.mark.parametrize(("interval_s", "waited"), [(0.005, True), (0.015, False)])
async def test_single_records_wait_for_each_other_when_they_come_faster_than_a_pause(
    interval_s: float, waited: bool
) -> None:
    times = iter([1.0, 1.0 + interval_s])
    gathering = BatchGathering(gather_ms=10, batch_size=100, clock=lambda: next(times))

    gathering.record_batch(1)
    first = await waits(gathering)
    gathering.record_batch(1)

    assert not first
    assert await waits(gathering) is waited


@pytest.mark.parametrize(("gathered", "waited"), [(2, True), (1, False), (0, False)])
async def test_a_pause_is_repeated_while_it_gathers_records(gathered: int, waited: bool) -> None:
    times = iter([1.0, 1.1])
    gathering = BatchGathering(gather_ms=10, batch_size=100, clock=lambda: next(times))
    gathering.record_batch(4)
    await gathering.pause()

    gathering.record_batch(gathered)

    assert await waits(gathering) is waited
