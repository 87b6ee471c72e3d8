"""Tasks that are cancelled have ended when who cancelled them goes on."""

from __future__ import annotations

import asyncio

import pytest

from everloop_shared.tasks import cancel_all


async def test_who_cancels_tasks_waits_for_their_end_even_if_cancelled_meanwhile() -> None:
    ending, may_end = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    caller = asyncio.create_task(cancel_all([task]))
    await ending.wait()

    caller.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not caller.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await caller
    assert task.done()
