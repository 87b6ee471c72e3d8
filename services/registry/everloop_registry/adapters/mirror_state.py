"""How far a mirror has come, and what it knows of the other system, in the registry's database."""

from __future__ import annotations

import sqlalchemy as sql

from everloop_registry.adapters.tracking_fold import put
from everloop_registry.tables import mirror_positions, mirrored
from everloop_shared.database import Database
from everloop_shared.outbox import SqlUnitOfWork


class MirrorState:
    """Positions in the topics and names by kind and key; names are stored with the next position.

    What is lost in a crash is found again on the other server, where everything carries our name as a tag.
    """

    def __init__(self, database: Database, unit: SqlUnitOfWork, server: str) -> None:
        self._database, self._unit, self._server = database, unit, server
        self._new: dict[tuple[str, str], str] = {}

    async def positions(self) -> dict[tuple[str, int], int]:
        """The next offset by topic and partition."""
        async with self._database.reading() as reader:
            rows = await reader.execute(sql.select(mirror_positions).where(mirror_positions.c.server == self._server))
            return {(row.topic, row.partition): row.next_offset for row in rows}

    async def get(self, kind: str, key: str) -> str | None:
        """What something is called on the other server, None where that is not known."""
        if (found := self._new.get((kind, key))) is not None:
            return found
        of = (mirrored.c.server == self._server, mirrored.c.kind == kind, mirrored.c.key == key)
        async with self._database.reading() as reader:
            named: str | None = await reader.scalar(sql.select(mirrored.c.named).where(*of))
            return named

    def put(self, kind: str, key: str, named: str) -> None:
        """Remember a name; it is stored with the next position."""
        self._new[kind, key] = named

    async def move(self, topic: str, partition: int, next_offset: int) -> None:
        """Store a position, and the names that were learned on the way."""
        async with self._unit:
            of = {"server": self._server}
            position = {**of, "topic": topic, "partition": partition, "next_offset": next_offset}
            await put(self._unit.connection, mirror_positions, [position])
            names = [{**of, "kind": kind, "key": key, "named": named} for (kind, key), named in self._new.items()]
            await put(self._unit.connection, mirrored, names)
        self._new.clear()
