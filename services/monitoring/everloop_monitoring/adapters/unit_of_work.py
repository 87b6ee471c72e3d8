"""The unit of work that evaluates a whole batch before it commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Self

from everloop_learning.loops import KnownLoops
from everloop_monitoring.adapters.alert_store import SqlAlertStore
from everloop_monitoring.adapters.letters import SqlLetters
from everloop_monitoring.adapters.projections import SqlProjections
from everloop_monitoring.adapters.row_names import LifetimeNames
from everloop_monitoring.handlers import Handlers
from everloop_monitoring.handlers.alerting import REPEAT, Alerting
from everloop_schemas.envelope import Event
from everloop_shared.clock import Clock, system_clock
from everloop_shared.database import Database
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.processing.record_spans import begin_traces
from everloop_shared.outbox import SqlUnitOfWork


class BatchUnitOfWork(SqlUnitOfWork):
    """A unit of work that adds the batch of the handlers to the projections before it commits."""

    def __init__(
        self, database: Database, settle_s: float = 0.0, clock: Clock = system_clock, repeat: timedelta = REPEAT
    ) -> None:
        super().__init__(database, "monitoring", settle_s)
        loops = KnownLoops()
        names = LifetimeNames(loops)
        projections = SqlProjections(self, names)
        alerting = Alerting(SqlAlertStore(self, names), projections, loops, clock, repeat)
        self.handlers = Handlers(projections, SqlLetters(self), loops, clock, alerting)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.handlers.begin_batch()
        return self

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Handlers write to nothing but the batch: what one added before it raised is dropped."""
        before = self.handlers.batch.copy()
        try:
            yield
        except BaseException:
            self.handlers.batch = before
            raise

    async def look_at_alerts(self, every_s: float) -> None:
        """A background job: every few seconds, end alerts that time has ended, and tell again those that go on."""
        while True:
            await asyncio.sleep(every_s)
            with suppress(Unavailable):  # the next look is soon
                async with self:
                    await self.record(await self.handlers.look_at_alerts(), {})

    async def record(self, events: Sequence[Event], offsets: dict[tuple[str, int], int]) -> None:
        """Store the events of the batch in the same transaction as the offsets from which they follow."""
        found = begin_traces("monitoring", await self.handlers.finish_batch())
        await super().record([*events, *found], offsets)
