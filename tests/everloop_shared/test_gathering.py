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
