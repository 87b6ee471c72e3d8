"""Where the keys of entities are kept, wrapped: a database of their own, SQLite or PostgreSQL.

A key is destroyed by deleting its row. SQLite overwrites what it deletes (`secure_delete`) and keeps no write-ahead
log, in which a deleted key would stay for a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Date,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from everloop_shared import postgresql, sqlite
from everloop_shared.errors import Unavailable

BUSY_S = 5.0
CHUNK = 500
"""Entities of one query, as databases limit the number of its parameters."""
PRAGMAS = ("PRAGMA secure_delete=ON", "PRAGMA journal_mode=DELETE", "PRAGMA synchronous=FULL")

metadata = MetaData()
keys = Table(
    "personal_keys",
    metadata,
    Column("loop", String(100), primary_key=True),
    Column("entity", String, primary_key=True),
    Column("key_id", String(16), nullable=False),
    Column("master_id", String(16), nullable=False, index=True),
    Column("wrapped", LargeBinary, nullable=False),
    Column("last_used", Date, nullable=False, index=True),
    Column("made_s", BigInteger, nullable=False),
    Column("owner", String, index=True),
)


@dataclass(frozen=True)
class WrappedKey:
    """A row: the key of one loop and entity, wrapped by the master key `master_id`; it sealed last on `last_used`.

    `made_s` is when it was made, in seconds since the epoch. A key of a comment, whose holder is a prediction, has the
    entity of that prediction as its `owner` once that is known, and is destroyed with the entity's.
    """

    loop: str
    entity: str
    key_id: str
    master_id: str
    wrapped: bytes
    last_used: date
    made_s: int = 0
    owner: str | None = None


class KeyStore:
    """The table of wrapped keys. Every call is one transaction and blocks; it raises Unavailable while it is away."""

    def __init__(self, url: str) -> None:
        parsed = postgresql.parse(url)
        self._is_file = parsed.drivername == sqlite.DRIVER
        if self._is_file:
            if parsed.database:
                Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._engine = create_engine(parsed.set(drivername="sqlite"), connect_args={"timeout": BUSY_S})
            event.listen(self._engine, "connect", _set_pragmas)
        else:
            arguments = postgresql.connect_args(parsed, "personal")
            self._engine = create_engine(parsed, pool_pre_ping=True, connect_args=arguments)
        try:
            with self._begin() as connection:
                if not self._is_file:
                    postgresql.make_schema(connection, "personal")
                connection.execute(CreateTable(keys, if_not_exists=True))
                for index in keys.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))
        except IntegrityError as e:  # another process makes the table at this moment
            raise Unavailable("the store of personal keys is being made") from e

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def find(self, loop: str, entity: str) -> WrappedKey | None:
        """The key of an entity; None where there is none."""
        with self._begin() as connection:
            of = (keys.c.loop == loop, keys.c.entity == entity)
            row = connection.execute(select(keys).where(*of)).one_or_none()
        return None if row is None else WrappedKey(**row._mapping)

    def find_all(self, loop: str, entities: Sequence[str], today: date | None = None) -> dict[str, WrappedKey]:
        """The keys of those of many entities that have one, by entity; they count as used on the day, if any."""
        found = dict[str, WrappedKey]()
        with self._begin() as connection:
            for some in (entities[i : i + CHUNK] for i in range(0, len(entities), CHUNK)):
                where = (keys.c.loop == loop, keys.c.entity.in_(some))
                rows = [WrappedKey(**row._mapping) for row in connection.execute(select(keys).where(*where))]
                found |= {row.entity: row for row in rows}
                if today is not None and any(row.last_used < today for row in rows):
                    connection.execute(update(keys).where(*where, keys.c.last_used < today).values(last_used=today))
        return found

    def add_all(self, new: Sequence[WrappedKey]) -> Sequence[WrappedKey]:
        """As `add` for many entities, which takes one write to the disk."""
        try:
            with self._begin() as connection:
                connection.execute(insert(keys), [vars(key) for key in new])
        except IntegrityError:
            return [self.add(key) for key in new]
        return new

    def add(self, key: WrappedKey) -> WrappedKey:
        """Store the key of an entity that has none; the one that is there already where another was faster."""
        try:
            with self._begin() as connection:
                connection.execute(insert(keys).values(**vars(key)))
        except IntegrityError:
            return self.find_all(key.loop, [key.entity], key.last_used).get(key.entity) or self.add(key)
        return key

    def replace(self, old: WrappedKey, new: WrappedKey) -> bool:
        """Store the same key, wrapped in another way; False where it was destroyed or replaced in the meantime."""
        where = (keys.c.loop == old.loop, keys.c.entity == old.entity, keys.c.wrapped == old.wrapped)
        with self._begin() as connection:
            return connection.execute(update(keys).where(*where).values(**vars(new))).rowcount > 0

    def set_owner(self, loop: str, holder: str, owner: str) -> None:
        """Say whose prediction the holder of a key is. Where the owner was erased, the key is deleted."""
        of, of_owner = (keys.c.loop == loop, keys.c.entity == holder), (keys.c.loop == loop, keys.c.entity == owner)
        with self._begin() as connection:
            if connection.execute(select(keys.c.key_id).where(*of_owner)).first() is None:
                connection.execute(delete(keys).where(*of))
            else:
                connection.execute(update(keys).where(*of).values(owner=owner))

    def destroy(self, loop: str, entity: str, until_s: int | None = None, now_s: int = 0) -> list[str]:
        """Delete the key of an entity, and those that it owns; whose keys there were.

        A key that was made after `until_s` stays, and with it what it owns and was made after that. One that says it
        was made after `now_s` has its time from a wrong clock, and counts as made before.
        """
        of: list[Any] = [keys.c.loop == loop, (keys.c.entity == entity) | (keys.c.owner == entity)]
        with self._begin() as connection:
            made = connection.scalar(select(keys.c.made_s).where(keys.c.loop == loop, keys.c.entity == entity))
            if until_s is not None and made is not None and until_s < made <= now_s:
                of.append((keys.c.made_s <= until_s) | (keys.c.made_s > now_s))
            holders = list(connection.scalars(select(keys.c.entity).where(*of)))
            connection.execute(delete(keys).where(*of))
        return holders

    def destroy_unused(self, loop: str, entity: str, day: date) -> bool:
        """Delete the key of an entity where it was last used before a day; False where it was not."""
        of = (keys.c.loop == loop, keys.c.entity == entity, keys.c.last_used < day)
        with self._begin() as connection:
            if connection.execute(delete(keys).where(*of)).rowcount == 0:
                return False
            connection.execute(delete(keys).where(keys.c.loop == loop, keys.c.owner == entity))
        return True

    def destroy_loop(self, loop: str, made_until_s: int | None = None) -> int:
        """Delete all keys of a loop, or those made until a moment; how many there were."""
        of = (keys.c.loop == loop, *([] if made_until_s is None else [keys.c.made_s <= made_until_s]))
        with self._begin() as connection:
            return connection.execute(delete(keys).where(*of)).rowcount

    def unused_since(self, loop: str, day: date, limit: int) -> list[WrappedKey]:
        """Keys that were last used before a day and that nobody owns, in order of their holders, at most `limit`."""
        where = (keys.c.loop == loop, keys.c.last_used < day, keys.c.entity != "", keys.c.owner.is_(None))
        with self._begin() as connection:
            rows = connection.execute(select(keys).where(*where).order_by(keys.c.entity).limit(limit))
            return [WrappedKey(**row._mapping) for row in rows]

    def count_wrapped(self) -> dict[str, int]:
        """By id of the master key that wraps them, the number of keys."""
        with self._begin() as connection:
            rows = connection.execute(select(keys.c.master_id, func.count()).group_by(keys.c.master_id))
            return {master: number for master, number in rows}

    def wrapped_by_others(self, master: str, limit: int = 500) -> list[WrappedKey]:
        """Some keys that another master key wraps, at most `limit`."""
        with self._begin() as connection:
            rows = connection.execute(select(keys).where(keys.c.master_id != master).limit(limit))
            return [WrappedKey(**row._mapping) for row in rows]

    def count(self) -> dict[str, int]:
        """By loop, the number of keys."""
        with self._begin() as connection:
            rows = connection.execute(select(keys.c.loop, func.count()).group_by(keys.c.loop))
            return {loop: number for loop, number in rows}

    def page(self, after: tuple[str, str] = ("", ""), limit: int = 1_000) -> list[WrappedKey]:
        """The next keys after a loop and entity, in their order, at most `limit`."""
        loop, entity = after
        later = (keys.c.loop > loop) | ((keys.c.loop == loop) & (keys.c.entity > entity))
        with self._begin() as connection:
            rows = connection.execute(select(keys).where(later).order_by(keys.c.loop, keys.c.entity).limit(limit))
            return [WrappedKey(**row._mapping) for row in rows]

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as e:
            postgresql.raise_if_away(e, "the store of personal keys")
            if isinstance(e, IntegrityError):
                raise
            # Such as a damaged file. No record is at fault, so none may become a dead letter because of it.
            raise Unavailable(f"the store of personal keys failed: {getattr(e, 'orig', None) or e}") from e


def _set_pragmas(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()
