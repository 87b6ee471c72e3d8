"""Brings the tables of experiments, runs, logged models and notes up to their topic."""

from __future__ import annotations

import logging

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from everloop_registry.adapters.decision_store import RegistryUnitOfWork
from everloop_registry.adapters.tracking_fold import put
from everloop_registry.tables import tracking_positions
from everloop_schemas.tracking import RunLogged
from everloop_shared.errors import InputRejected
from everloop_shared.messaging.routes import LogReader
from everloop_shared.postgresql import is_away

log = logging.getLogger(__name__)
READ_BATCH_RECORDS = 100
"""An event holds up to a megabyte."""


class TrackingRecovery:
    """Reads the topic from where the tables were last brought up to it, and folds the events that they lack.

    An event is in the tables if its key has come to its sequence number, so events that are read again, or that the
    outbox still holds, change nothing.
    """

    def __init__(self, unit: RegistryUnitOfWork, partitions: int) -> None:
        self._unit, self._partitions = unit, partitions

    async def add_missing(self, reader: LogReader) -> int:
        """Fold what is missing; the number of events that were new."""
        added = 0
        for partition in range(self._partitions):
            start, end = await self._position(partition), await reader.end_offset(RunLogged.topic, partition)
            for first in range(start, end, READ_BATCH_RECORDS):
                added += await self._fold(reader, partition, first, min(end, first + READ_BATCH_RECORDS))
        async with self._unit:
            await self._unit.tracking.add_default_experiment()
        if added:
            log.info("tracking data added from the topic", extra={"events": added})
        return added

    async def _position(self, partition: int) -> int:
        async with self._unit:
            query = sql.select(tracking_positions.c.next_offset).where(tracking_positions.c.partition == partition)
            return int(await self._unit.connection.scalar(query) or 0)

    async def _fold(self, reader: LogReader, partition: int, start: int, end: int) -> int:
        added = 0
        records = await reader.read(RunLogged.topic, partition, start, end)
        async with self._unit:
            for _, event in records:
                if isinstance(event, RunLogged):
                    added += await self._replay(event)
            await put(self._unit.connection, tracking_positions, [{"partition": partition, "next_offset": end}])
        return added

    async def _replay(self, event: RunLogged) -> bool:
        """Fold an event; one that no registry wrote is left out, and the registry starts."""
        try:
            async with self._unit.connection.begin_nested():
                return await self._unit.tracking.replay(event)
        except (InputRejected, SQLAlchemyError) as e:
            if is_away(e):
                raise
            fields = {"key": event.loop[:100], "sequence": event.sequence, "reason": str(e)[:300]}
            log.error("tracking data left out", extra=fields)
            return False
