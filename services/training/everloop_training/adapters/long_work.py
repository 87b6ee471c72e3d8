"""Work of minutes: ended when nobody wants it any more, and waiting while what it needs is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from everloop_shared.backoff import Backoff
from everloop_shared.errors import Unavailable
from everloop_shared.tasks import cancel_all

log = logging.getLogger(__name__)
LOOK_EVERY_S = 0.5
"""Between two looks for work, and whether what is done is still wanted."""
GIVEN_UP = "given_up"
BACKOFF = Backoff(first_s=0.2, longest_s=10.0)
T = TypeVar("T")


async def done_while_wanted(work: Coroutine[Any, Any, str], is_wanted: Callable[[], bool]) -> str:
    """The result of the work, or GIVEN_UP where it was not wanted any more; it ends with a caller that is cancelled."""
    task = asyncio.create_task(work)
    try:
        while not task.done() and is_wanted():
            await asyncio.wait([task], timeout=LOOK_EVERY_S)
    finally:
        await cancel_all([task])
    return GIVEN_UP if task.cancelled() else task.result()


async def retried(work: Callable[[], Awaitable[T]], what: str) -> T:
    """The result, tried again while Kafka, the store, the worker or what computes is away; `what` waits meanwhile."""
    for pause in BACKOFF.pauses():
        try:
            return await work()
        except Unavailable as e:
            log.warning(f"{what} waits", extra={"reason": e.detail})
        await asyncio.sleep(pause)
    raise AssertionError("pauses never end")
