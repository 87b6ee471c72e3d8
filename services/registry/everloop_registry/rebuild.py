"""Brings the database up to the topic: all of it into an empty one, what is missing into an older one."""

from __future__ import annotations

import logging
from collections import defaultdict
from types import TracebackType
from typing import Self

import sqlalchemy as sql

from everloop_registry.adapters import SqlBook, micros
from everloop_registry.domain.ledger import Cause
from everloop_registry.errors import Broken
from everloop_registry.tables import FOLD, decisions
from everloop_schemas.envelope import at
from everloop_schemas.registry import Decided
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.routes import Engine, EngineFactory
from everloop_shared.outbox import SqlUnitOfWork

log = logging.getLogger(__name__)
AT_ONCE = 2_000
Seen = dict[int, Decided]


class CatchUp:
    """A resource that a service enters before it decides anything: then the database holds every decision told.

    Nothing is published. What the database decided and has not told yet stays in its outbox. Raises Misconfigured
    where database and topic tell different stories, since going on would fork the sequence.
    """

    def __init__(self, unit: SqlUnitOfWork, connect: EngineFactory, partitions: int) -> None:
        self._unit, self._connect, self._partitions = unit, connect, partitions
        self.done = False

    async def __aenter__(self) -> Self:
        reader = self._connect("registry", [])
        await reader.start()
        try:
            await self.from_topic(reader)
        finally:
            await reader.stop()
        self.done = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def anew(self, reader: Engine) -> int:
        """Tell what is left in the outbox, empty the fold's tables and fill them from the topic."""
        await self._unit.relay(reader)
        async with self._unit:
            for table in FOLD:
                await self._unit.session.execute(sql.delete(table))
        return await self.from_topic(reader)

    async def from_topic(self, reader: Engine) -> int:
        """Fold in every decision that the database lacks; returns how many."""
        added = 0
        for partition in range(self._partitions):
            for loop, seen in (await _told(reader, partition)).items():
                async with self._unit:
                    added += await self._fold(loop, seen)
        if added:
            log.info("decisions folded in from the topic", extra={"decisions": added})
        return added

    async def _fold(self, loop: str, seen: Seen) -> int:
        book = SqlBook(self._unit)
        ledger = await book.open(loop, Cause(None, None, at(0)))
        last = ledger.loop.sequence if ledger.loop else -1
        await self._agree(loop, seen, last)
        for sequence in range(last + 1, max(seen) + 1):
            if sequence not in seen:
                raise Broken(f"{loop}: decision {sequence} is missing on {Decided.topic.name}")
            if seen[sequence].prevhash != ledger.head:
                # written by an earlier release, whose bytes this one would write otherwise: the topic keeps them
                log.warning("hash of a decision differs from its bytes now", extra={"loop": loop, "of": sequence - 1})
            ledger.recall(seen[sequence])
        if ledger.decided:
            await book.save(ledger)
        return len(ledger.decided)

    async def _agree(self, loop: str, seen: Seen, last: int) -> None:
        """The last decision that both have must be one and the same."""
        common = min(last, max(seen))
        query = sql.select(decisions.c.time_us).where(decisions.c.loop == loop, decisions.c.sequence == common)
        kept = await self._unit.session.scalar(query)
        if common >= 0 and common in seen and kept != micros(seen[common].time):
            raise Misconfigured(
                f"decision {common} of {loop} is another in the database than on {Decided.topic.name}: the database "
                "belongs to another log; run `python -m everloop_registry rebuild`, or point it to its own"
            )


async def _told(reader: Engine, partition: int) -> dict[str, Seen]:
    """The decisions on a partition, by loop and sequence; one told twice counts once."""
    found: dict[str, Seen] = defaultdict(dict)
    end = await reader.end_offset(Decided.topic, partition)
    for start in range(0, end, AT_ONCE):
        for _, event in await reader.read(Decided.topic, partition, start, min(end, start + AT_ONCE)):
            if isinstance(event, Decided):
                found[event.loop].setdefault(event.sequence, event)
    return found
