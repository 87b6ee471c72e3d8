"""Ends tasks: whoever cancels one waits until it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def cancel_all(futures: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel those that are not done, and wait until they have ended, also if the caller is cancelled meanwhile."""
    futures = list(futures)
    for future in futures:
        future.cancel()
    await wait_for_all(futures)


async def wait_for_all(futures: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until all are done, also if the caller is cancelled meanwhile, which is raised afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while unfinished := [f for f in futures if not f.done()]:
        try:
            await asyncio.wait(unfinished)
        except asyncio.CancelledError as e:
            cancelled = e
    if cancelled is not None:
        raise cancelled
