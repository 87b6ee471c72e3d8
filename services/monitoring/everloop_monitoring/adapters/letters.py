"""The list of dead letters on SQL, and the letters themselves on their topics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Select, Table, delete, func, or_, select

from everloop_monitoring.adapters.row_names import time_text, without_nul
from everloop_monitoring.domain.letters import MAX_LETTERS, MAX_LETTERS_PER_LOOP, ListedLetter
from everloop_monitoring.errors import LetterNotFound
from everloop_monitoring.tables import dead_letters, sent_letters
from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetter
from everloop_schemas.monitoring import DeadLetterSent
from everloop_schemas.names import ID_LIMIT
from everloop_shared.database import Database
from everloop_shared.messaging.routes import RecordReader
from everloop_shared.outbox import SqlUnitOfWork
from everloop_shared.sql_dialects import insert_into

FORM = TypeAdapter(ListedLetter)
MAX_SENT = 2 * MAX_LETTERS


class SqlLetters:
    """The list in the open transaction of a unit of work."""

    def __init__(self, unit: SqlUnitOfWork) -> None:
        self._unit = unit

    async def add_letters(self, letters: Sequence[ListedLetter]) -> None:
        """Insert or ignore by id, then delete what is beyond the limits."""
        rows = [
            {
                "id": without_nul(one.id),
                "loop": one.loop,
                "service": one.service,
                "time": time_text(one.time),
                "letter": _form(one),
            }
            for one in {one.id: one for one in letters}.values()
        ]
        await self._insert(dead_letters, rows)
        seq, of_loop = dead_letters.c.seq, dead_letters.c.loop
        nth = func.row_number().over(order_by=seq.desc()).label("nth")
        nth_of_loop = func.row_number().over(partition_by=of_loop, order_by=seq.desc()).label("nth_of_loop")
        places = select(seq, nth, nth_of_loop).subquery()
        beyond = or_(places.c.nth > MAX_LETTERS, places.c.nth_of_loop > MAX_LETTERS_PER_LOOP)
        await self._unit.connection.execute(delete(dead_letters).where(seq.in_(select(places.c.seq).where(beyond))))

    async def add_sent(self, sent: Sequence[DeadLetterSent]) -> None:
        """Insert or ignore by id, then delete the oldest beyond the limit."""
        rows = [
            {"id": without_nul(one.id), "letter": _name(one.data.letter), "event": one.encode().decode()}
            for one in {one.id: one for one in sent}.values()
        ]
        await self._insert(sent_letters, rows)
        seq = sent_letters.c.seq
        oldest = select(seq).order_by(seq.desc()).offset(MAX_SENT).limit(1).scalar_subquery()
        await self._unit.connection.execute(delete(sent_letters).where(seq <= oldest))

    async def has_sent(self, sent: DeadLetterSent) -> bool:
        """One statement."""
        query = select(sent_letters.c.id).where(sent_letters.c.id == without_nul(sent.id))
        return await self._unit.connection.scalar(query) is not None

    async def _insert(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        connection = self._unit.connection
        insert = insert_into(table, connection.dialect.name)
        await connection.execute(insert.on_conflict_do_nothing(index_elements=["id"]), list(rows))


class SqlLetterReader:
    """The committed list; the records are read from the topics."""

    def __init__(self, database: Database, log: RecordReader) -> None:
        self._database, self._log = database, log

    async def letters(
        self, service: str | None, loop: str | None, since: datetime | None, limit: int
    ) -> list[tuple[ListedLetter, list[DeadLetterSent]]]:
        """Two statements."""
        query = select(dead_letters.c.letter).order_by(dead_letters.c.seq.desc()).limit(limit)
        if service is not None:
            query = query.where(dead_letters.c.service == service)
        if loop is not None:
            query = query.where(dead_letters.c.loop == loop)
        if since is not None:
            query = query.where(dead_letters.c.time >= time_text(since))
        return await self._with_sent(query)

    async def letter(self, id: str) -> tuple[ListedLetter, list[DeadLetterSent]]:
        """Two statements."""
        found = await self._with_sent(select(dead_letters.c.letter).where(dead_letters.c.id == without_nul(id)))
        if not found:
            raise LetterNotFound(f"no dead letter {id[:80]!r} in the list: everloop letters ls shows it")
        return found[0]

    async def read(self, letter: ListedLetter) -> DeadLetter:
        """One record of the log."""
        topic, offset = DEAD_LETTERS[letter.service].topic, letter.letter_offset
        found = await self._log.read(topic, letter.letter_partition, offset, offset + 1)
        for _, event in found:
            if isinstance(event, DeadLetter) and event.id == letter.id:
                return event
        days = topic.retention_ms // 86_400_000
        raise LetterNotFound(f"the record of {letter.id} is gone: {topic.name} keeps it for {days} days")

    async def _with_sent(self, query: Select[Any]) -> list[tuple[ListedLetter, list[DeadLetterSent]]]:
        async with self._database.reading() as reader:
            letters = [FORM.validate_python(row.letter) for row in await reader.execute(query)]
            of_these = sent_letters.c.letter.in_([_name(letter.id) for letter in letters])
            events = select(sent_letters.c.event).where(of_these).order_by(sent_letters.c.seq)
            sent = [DeadLetterSent.decode(row.event.encode()) for row in await reader.execute(events)]
        return [(letter, [one for one in sent if one.data.letter == letter.id]) for letter in letters]


def _name(id: str) -> str:
    """An id as it is stored, whatever whoever wrote to the topic has put there."""
    return without_nul(id)[:ID_LIMIT]


def _form(letter: ListedLetter) -> Any:
    """The entry as JSON that PostgreSQL stores."""
    return _without_nul(FORM.dump_python(letter, mode="json"))


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return without_nul(value)
    return {k: _without_nul(v) for k, v in value.items()} if isinstance(value, dict) else value
