"""Background tasks of tests."""

from __future__ import annotations

import asyncio
from typing import Any


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended.

    A task that is only cancelled goes on while the test closes what it holds: a connection that it still has is then
    closed by the garbage collector, in the middle of another test.
    """
    task.cancel()
    await asyncio.wait([task])
