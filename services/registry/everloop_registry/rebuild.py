"""Brings the database up to the topic: all of it into an empty one, what is missing into an older one."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import sqlalchemy as sql

from everloop_registry.adapters import BookUnit, micros
from everloop_registry.domain.ledger import Cause, Ledger
from everloop_registry.errors import Broken
from everloop_registry.metrics import LEFT_OUT
from everloop_registry.tables import FOLD, decisions
from everloop_schemas.envelope import at
from everloop_schemas.registry import Decided
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.routes import Engine, EngineFactory

log = logging.getLogger(__name__)
AT_ONCE = 2_000
Seen = dict[int, list[Decided]]
"""The records of one loop by the number of the decision they say they are, in the order of the topic."""


@dataclass
class Told:
    """What one partition of the topic says: its records by loop, and whether it has lost its first ones."""

    loops: dict[str, Seen] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    shortened: bool = False


@dataclass
class Folded:
    """How many decisions were folded in, and how many records were left out because they follow from nothing."""

    added: int = 0
    left_out: int = 0

    def __add__(self, other: Folded) -> Folded:
        return Folded(self.added + other.added, self.left_out + other.left_out)


class CatchUp:
    """A resource that a service enters before it decides anything: then the database holds every decision told.

    Nothing is published. What the database decided and has not told yet stays in its outbox. A record that does not
    follow from the decisions before it was not written by a registry: it is left out, logged and counted, and the
    registry starts. Raises Misconfigured where database and topic tell different stories, and Broken where decisions
    are missing because the topic has lost its first records: going on would fork the sequence.
    """

    def __init__(self, unit: BookUnit, connect: EngineFactory, partitions: int) -> None:
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

    async def anew(self, reader: Engine) -> Folded:
        """Tell what is left in the outbox, empty the fold's tables and fill them from the topic."""
        await self._unit.relay(reader)
        async with self._unit:
            for table in FOLD:
                await self._unit.session.execute(sql.delete(table))
        return await self.from_topic(reader)

    async def from_topic(self, reader: Engine) -> Folded:
        """Fold in every decision that the database lacks."""
        folded, waiting = Folded(), await self._waiting()
        for partition in range(self._partitions):
            told = await _told(reader, partition)
            for loop, seen in told.loops.items():
                async with self._unit:
                    folded += await self._fold(loop, seen, told.shortened, waiting.get(loop))
        LEFT_OUT.set(folded.left_out)
        if folded.added:
            log.info("decisions folded in from the topic", extra={"decisions": folded.added})
        return folded

    async def _waiting(self) -> dict[str, int]:
        """The first decision of each loop that lies in the outbox."""
        first = dict[str, int]()
        async with self._unit:
            for event in await self._unit.waiting(Decided.topic):
                if isinstance(event, Decided):
                    first.setdefault(event.loop, event.sequence)
        return first

    async def _fold(self, loop: str, seen: Seen, shortened: bool, waiting: int | None) -> Folded:
        book = self._unit.book
        ledger = await book.open(loop, Cause(None, None, at(0)))
        last = ledger.loop.sequence if ledger.loop else -1
        await self._agree(loop, seen, last if waiting is None else waiting - 1)
        rest = [sequence for sequence in sorted(seen) if sequence > last]
        left_out = 0
        for n, sequence in enumerate(rest):
            if reason := _recall(ledger, seen[sequence]):
                if shortened:
                    raise Broken(f"{loop}: {reason}, and the first records of {Decided.topic.name} are gone")
                left_out = sum(len(seen[s]) for s in rest[n:])
                told = {"loop": loop[:100], "reason": reason[:300], "records": left_out}
                log.error("decisions left out", extra=told)
                break
        if ledger.decided:
            await book.save(ledger)
            await book.write()
        return Folded(len(ledger.decided), left_out)

    async def _agree(self, loop: str, seen: Seen, told: int) -> None:
        """The last decision that both have must be one and the same.

        Both have those up to `told`, which have left the outbox: a record of somebody else under the number of a
        later one says nothing about the database.
        """
        common = min(told, max(seen))
        query = sql.select(decisions.c.time_us).where(decisions.c.loop == loop, decisions.c.sequence == common)
        kept = await self._unit.session.scalar(query)
        if common >= 0 and common in seen and kept not in {micros(record.time) for record in seen[common]}:
            raise Misconfigured(
                f"decision {common} of {loop} is another in the database than on {Decided.topic.name}: the database "
                "belongs to another log; run `python -m everloop_registry rebuild`, or point it to its own"
            )


def _recall(ledger: Ledger, told: list[Decided]) -> str:
    """Take in the decision that these records of one number tell; the reason where none of them can follow.

    One told twice counts once. Where records differ, the one that is chained to the decision before comes first.
    """
    reason = ""
    for decision in sorted(told, key=lambda d: d.prevhash != ledger.head):
        head = ledger.head
        try:
            ledger.recall(decision)
        except Exception as e:  # whatever somebody wrote there, the registry starts
            reason = reason or str(e)
            continue
        if decision.prevhash != head:
            # written by an earlier release, whose bytes this one would write otherwise: the topic keeps them
            log.warning(
                "hash of a decision differs from its bytes now",
                extra={"loop": ledger.name, "of": decision.sequence - 1},
            )
        return ""
    return reason


async def _told(reader: Engine, partition: int) -> Told:
    """The decisions on a partition."""
    told, first = Told(), None
    end = await reader.end_offset(Decided.topic, partition)
    for start in range(0, end, AT_ONCE):
        for position, event in await reader.read(Decided.topic, partition, start, min(end, start + AT_ONCE)):
            first = position.offset if first is None else first
            if isinstance(event, Decided):
                told.loops[event.loop][event.sequence].append(event)
    told.shortened = bool(first)
    return told
