"""Brings the database up to the topic: fills an empty one, adds what an older one lacks."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

import sqlalchemy as sql

from everloop_registry.adapters.decision_store import RegistryUnitOfWork
from everloop_registry.adapters.tracking_recovery import TrackingRecovery
from everloop_registry.domain.decision_log import DecisionContext, DecisionLog
from everloop_registry.errors import DecisionsInconsistent
from everloop_registry.metrics import LEFT_OUT_DECISIONS
from everloop_registry.tables import FOLD, decisions, to_micros
from everloop_schemas.decision_chain import DecisionChains
from everloop_schemas.envelope import Event, utc_time
from everloop_schemas.registry import Decided, LoopState
from everloop_shared.clock import Clock, system_clock
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.routes import Engine, EngineFactory, LogReader, connected

log = logging.getLogger(__name__)
READ_BATCH_RECORDS = 2_000
E = TypeVar("E", bound=Event)
DecisionsBySequence = dict[int, list[Decided]]
"""The records of one loop by the sequence number that they carry, in the order of the topic."""


@dataclass
class PartitionDecisions:
    """The decisions on one partition, by loop; `truncated` when the partition has lost its first records."""

    loops: dict[str, DecisionsBySequence] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    truncated: bool = False


@dataclass
class RecoveryResult:
    """How many decisions were added, and how many records were left out because they follow from no decision."""

    added: int = 0
    left_out: int = 0

    def __add__(self, other: RecoveryResult) -> RecoveryResult:
        return RecoveryResult(self.added + other.added, self.left_out + other.left_out)


class TopicRecovery:
    """Brings the database up to the topic before the service decides anything, as a resource that it enters first.

    No decision is published: those that the database has not published yet stay in its outbox. A record that does not
    follow from the decisions before it was not written by a registry: it is left out, logged and counted, and the
    registry starts. Raises Misconfigured where database and topic contradict each other, and DecisionsInconsistent
    where decisions are missing because the topic has lost its first records: deciding on would fork the sequence.
    """

    def __init__(
        self, unit: RegistryUnitOfWork, connect: EngineFactory, partitions: int, clock: Clock = system_clock
    ) -> None:
        self._unit, self._connect, self._partitions, self._clock = unit, connect, partitions, clock
        self._tracking = TrackingRecovery(unit, partitions)
        self.done = False

    async def __aenter__(self) -> Self:
        async with connected(self._connect("registry")) as engine:
            await self.add_missing(engine)
        if self._unit.store.signs:
            await self._sign_states()
        self.done = True
        return self

    async def _sign_states(self) -> None:
        """Put the state of every loop into the outbox once more: its last one may be of no key, or of an earlier one.

        Readers that know the state already pass over it, as its sequence number is the same.
        """
        async with self._unit:
            await self._unit.record(await self._unit.store.signed_states(self._clock()), {})

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def rebuild(self, engine: Engine) -> RecoveryResult:
        """Publish what is left in the outbox, empty the tables of decisions and fold, and fill them from the topic.

        Raises DecisionsInconsistent where a loop's chain is broken, before anything is emptied.
        """
        await self._unit.relay(engine)
        await self._check_chains(engine)
        async with self._unit:
            for table in FOLD:
                await self._unit.connection.execute(sql.delete(table))
        return await self.add_missing(engine)

    async def _check_chains(self, reader: LogReader) -> None:
        chains = DecisionChains()
        for partition in range(self._partitions):
            async for _, decision in _read_all(reader, Decided, partition):
                chains.add_decision(decision.encode())
            async for _, state in _read_all(reader, LoopState, partition):
                chains.add_state(state.encode())
        for found in filter(None, (chain.find_break() for chain in chains.loops.values())):
            raise DecisionsInconsistent(f"{found}; nothing was changed, and everloop audit verify tells of all loops")

    async def add_missing(self, reader: LogReader) -> RecoveryResult:
        """Add every decision that the database lacks."""
        result, unpublished = RecoveryResult(), await self._first_unpublished()
        for partition in range(self._partitions):
            found = await _read_partition(reader, partition)
            for loop, records in found.loops.items():
                async with self._unit:
                    result += await self._add_to_loop(loop, records, found.truncated, unpublished.get(loop))
        LEFT_OUT_DECISIONS.set(result.left_out)
        await self._tracking.add_missing(reader)
        if result.added:
            log.info("decisions added from the topic", extra={"decisions": result.added})
        return result

    async def _first_unpublished(self) -> dict[str, int]:
        """The sequence number of each loop's first decision in the outbox."""
        first = dict[str, int]()
        async with self._unit:
            for event in await self._unit.waiting(Decided.topic):
                if isinstance(event, Decided):
                    first.setdefault(event.loop, event.sequence)
        return first

    async def _add_to_loop(
        self, loop: str, records: DecisionsBySequence, truncated: bool, unpublished: int | None
    ) -> RecoveryResult:
        store = self._unit.store
        decision_log = await store.open(loop, DecisionContext(None, None, utc_time(0)))
        last = decision_log.state.sequence if decision_log.state else -1
        await self._check_same_log(loop, records, last if unpublished is None else unpublished - 1)
        missing = [sequence for sequence in sorted(records) if sequence > last]
        left_out = 0
        for n, sequence in enumerate(missing):
            if reason := _replay(decision_log, records[sequence]):
                if truncated:
                    raise DecisionsInconsistent(
                        f"{loop}: {reason}, and the first records of {Decided.topic.name} are gone"
                    )
                left_out = sum(len(records[s]) for s in missing[n:])
                fields = {"loop": loop[:100], "reason": reason[:300], "records": left_out}
                log.error("decisions left out", extra=fields)
                break
        if decision_log.decided:
            await store.save(decision_log)
            await store.write_working_states()
        return RecoveryResult(len(decision_log.decided), left_out)

    async def _check_same_log(self, loop: str, records: DecisionsBySequence, last_published: int) -> None:
        """The last decision that database and topic share must be the same one.

        They share decisions up to `last_published`. A record with the number of a later one may come from somebody
        else, and is no reason to doubt the database.
        """
        common = min(last_published, max(records))
        query = sql.select(decisions.c.time_us).where(decisions.c.loop == loop, decisions.c.sequence == common)
        stored = await self._unit.connection.scalar(query)
        if common >= 0 and common in records and stored not in {to_micros(record.time) for record in records[common]}:
            raise Misconfigured(
                f"decision {common} of {loop} is another in the database than on {Decided.topic.name}: the database "
                "belongs to another log; run `python -m everloop_registry rebuild`, or point it to its own"
            )


def _replay(decision_log: DecisionLog, records: list[Decided]) -> str:
    """Replay the decision in these records of one sequence number; the reason where none of them can follow.

    Duplicates count once. Where records differ, the one that is chained to the decision before is tried first.
    """
    reason = ""
    for decision in sorted(records, key=lambda d: d.prevhash != decision_log.head):
        head = decision_log.head
        try:
            decision_log.replay(decision)
        except Exception as e:  # the registry starts, whatever the record holds
            reason = reason or str(e)
            continue
        if decision.prevhash != head:
            # a release that re-encoded decisions of an earlier one hashed other bytes than those on the topic
            log.warning(
                "hash of a decision differs from its bytes now",
                extra={"loop": decision_log.name, "of": decision.sequence - 1},
            )
        return ""
    return reason


async def _read_partition(reader: LogReader, partition: int) -> PartitionDecisions:
    found, first = PartitionDecisions(), None
    async for offset, decision in _read_all(reader, Decided, partition):
        first = offset if first is None else first
        found.loops[decision.loop][decision.sequence].append(decision)
    found.truncated = bool(first)
    return found


async def _read_all(reader: LogReader, kind: type[E], partition: int) -> AsyncIterator[tuple[int, E]]:
    """The events of one kind on a partition of its topic, each with its offset."""
    end = await reader.end_offset(kind.topic, partition)
    for start in range(0, end, READ_BATCH_RECORDS):
        for position, event in await reader.read(kind.topic, partition, start, min(end, start + READ_BATCH_RECORDS)):
            if isinstance(event, kind):
                yield position.offset, event
