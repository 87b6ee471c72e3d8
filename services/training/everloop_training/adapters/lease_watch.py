"""Watches the leases of trainers elsewhere: a run that the last trainer has not answered has failed."""

from __future__ import annotations

import asyncio
import logging

from everloop_shared.errors import Overloaded, Unavailable
from everloop_training.handlers import TrainerHandlers
from everloop_training.metrics import ANSWERS

log = logging.getLogger(__name__)
LOOKS_PER_LEASE, LONGEST_PAUSE_S = 20, 5.0


async def watch_leases(handlers: TrainerHandlers, lease_s: float) -> None:
    """Give up the runs that nobody answers, for ever; while the worker restarts they are left for the next look."""
    while True:
        await asyncio.sleep(min(LONGEST_PAUSE_S, lease_s / LOOKS_PER_LEASE))
        try:
            for ended in await handlers.give_up():
                ANSWERS.labels(ended.loop, "given_up").inc()
        except (Unavailable, Overloaded) as e:
            log.warning("runs without an answer are given up later", extra={"reason": e.detail})
