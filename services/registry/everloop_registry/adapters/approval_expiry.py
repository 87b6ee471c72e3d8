"""Ends approvals that have not come in time, whether anything else happens to their loops or not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from everloop_registry.handlers import CommandHandlers
from everloop_registry.ports import LoopReader
from everloop_shared.commands import Execute

log = logging.getLogger(__name__)
EVERY_S = 10.0


@dataclass(frozen=True)
class ApprovalExpiry:
    """A background job: looks every few seconds which candidates wait, and has those rolled back that are overdue.

    What it decides is a decision as any other, so that a rebuild needs no clock.
    """

    handlers: CommandHandlers
    reader: LoopReader
    execute: Execute
    recovered: Callable[[], bool]
    every_s: float = EVERY_S

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                if self.recovered():
                    await self._look()
            except Exception:  # the database may be locked or away: nothing is lost, as it looks again
                log.warning("approvals could not be looked through", exc_info=True)
            await asyncio.sleep(self.every_s)

    async def _look(self) -> None:
        for loop in await self.reader.waiting_for_approval():
            await self.execute(lambda: self.handlers.end_expired_approval(loop))  # noqa: B023 - awaited at once
