"""Reads loops and their versions as registered models and model versions, for queries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_registry.adapters.search import Related, Searched
from everloop_registry.domain.aliases import Aliases
from everloop_registry.domain.filters import Condition, Order
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.pages import Page, Paging
from everloop_registry.domain.registered_models import ModelVersion, RegisteredModel
from everloop_registry.domain.tracking import version_artifacts
from everloop_registry.tables import decisions, loops, note_tags, notes, versions
from everloop_schemas.training import ModelTrainedData
from everloop_shared.database import Database

OF_LOOP = decisions.c.loop == loops.c.loop
FIRST_MS = sql.select(sql.func.min(decisions.c.time_us) // 1000).where(OF_LOOP).correlate(loops).scalar_subquery()
LAST_MS = sql.select(sql.func.max(decisions.c.time_us) // 1000).where(OF_LOOP).correlate(loops).scalar_subquery()
MODEL_COLUMNS = {"name": loops.c.loop, "created": FIRST_MS, "updated": LAST_MS}
VERSION_COLUMNS: dict[str, sql.ColumnElement[Any]] = {
    "name": versions.c.loop,
    "run": versions.c.run,
    "source": sql.literal(version_artifacts("", "")[:-1]) + versions.c.loop + "/" + versions.c.version,
    "status": sql.literal("READY"),
    "number": versions.c.number,
    "created": versions.c.time_us // 1000,
    "updated": versions.c.time_us // 1000,
}
MODEL_ROW = sql.select(loops.c.loop, loops.c.state, FIRST_MS.label("created"), LAST_MS.label("updated"))
VERSION_ROW = sql.select(versions).join(loops, loops.c.loop == versions.c.loop)
NOT_DELETED = loops.c.deleted.is_(False)
Notes = dict[tuple[str, int], tuple[str, int, dict[str, str]]]
"""By loop and number: description, when it was last changed, tags."""


class SqlModelReader:
    """Reads what is committed, on snapshots beside the writer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        backend = database.url.get_backend_name()
        model_tags = Related(note_tags, {"loop": loops.c.loop, "number": sql.literal(0)})
        version_tags = Related(note_tags, {"loop": versions.c.loop, "number": versions.c.number})
        self._models = Searched(MODEL_COLUMNS, {"tag": model_tags}, backend)
        self._versions = Searched(VERSION_COLUMNS, {"tag": version_tags}, backend)

    async def model(self, name: str) -> RegisteredModel | None:
        """One registered model."""
        async with self._database.reading() as reader:
            rows = (await reader.execute(MODEL_ROW.where(NOT_DELETED, loops.c.loop == name))).all()
            return next(iter(await _models(reader, rows)), None)

    async def search_models(
        self,
        conditions: Sequence[Condition],
        orders: Sequence[Order],
        paging: Paging,
        among: Collection[str] | None = None,
    ) -> Page[RegisteredModel]:
        """The models that match, by name unless ordered otherwise."""
        of = (NOT_DELETED, *_of_loops(among), *self._models.matches(conditions))
        query = self._models.ordered(MODEL_ROW.where(*of), orders)
        query = query.order_by(loops.c.loop).offset(paging.start).limit(paging.limit)
        async with self._database.reading() as reader:
            page = paging.page((await reader.execute(query)).all())
            return Page(await _models(reader, page.found), page.token)

    async def version(self, name: str, number: int) -> ModelVersion | None:
        """One version, of an earlier lifetime of the loop too."""
        query = VERSION_ROW.where(NOT_DELETED, versions.c.loop == name, versions.c.number == number)
        async with self._database.reading() as reader:
            return next(iter(await _versions(reader, (await reader.execute(query)).all())), None)

    async def search_versions(
        self,
        conditions: Sequence[Condition],
        orders: Sequence[Order],
        paging: Paging,
        among: Collection[str] | None = None,
    ) -> Page[ModelVersion]:
        """The versions of the loops' present lifetimes that match, latest first unless ordered otherwise."""
        present = (NOT_DELETED, versions.c.past.is_(False), *_of_loops(among))
        query = self._versions.ordered(VERSION_ROW.where(*present, *self._versions.matches(conditions)), orders)
        latest = (versions.c.time_us.desc(), versions.c.loop, versions.c.number.desc())
        query = query.order_by(*latest).offset(paging.start).limit(paging.limit)
        async with self._database.reading() as reader:
            page = paging.page((await reader.execute(query)).all())
            return Page(await _versions(reader, page.found), page.token)


def _of_loops(among: Collection[str] | None) -> list[sql.ColumnElement[bool]]:
    return [] if among is None else [loops.c.loop.in_(among)]


async def _models(reader: AsyncConnection, rows: Sequence[Any]) -> list[RegisteredModel]:
    names = [row.loop for row in rows]
    states = {row.loop: Loop.model_validate_json(row.state) for row in rows}
    highest = sql.select(versions.c.loop, sql.func.max(versions.c.number).label("number"))
    highest = highest.where(versions.c.loop.in_(names), versions.c.past.is_(False)).group_by(versions.c.loop)
    last = highest.subquery()
    is_last = sql.and_(versions.c.loop == last.c.loop, versions.c.number == last.c.number)
    latest_rows = (await reader.execute(VERSION_ROW.join(last, is_last))).all()
    latest = {version.loop: version for version in await _described(reader, latest_rows, states)}
    numbers = await _numbers(reader, states.values())
    written = await _notes(reader, names)
    return [
        RegisteredModel(
            name=row.loop,
            created_ms=int(row.created),
            updated_ms=max(int(row.updated), written.get((row.loop, 0), _NOTHING)[1]),
            latest=latest.get(row.loop),
            aliases={a: numbers[row.loop, v] for a, v in Aliases.of(states[row.loop]).given().items()},
            description=written.get((row.loop, 0), _NOTHING)[0],
            tags=written.get((row.loop, 0), _NOTHING)[2],
        )
        for row in rows
    ]


async def _versions(reader: AsyncConnection, rows: Sequence[Any]) -> list[ModelVersion]:
    query = sql.select(loops.c.state).where(loops.c.loop.in_({row.loop for row in rows}))
    loops_of = [Loop.model_validate_json(state) for state in await reader.scalars(query)]
    return await _described(reader, rows, {loop.loop: loop for loop in loops_of})


async def _described(reader: AsyncConnection, rows: Sequence[Any], states: Mapping[str, Loop]) -> list[ModelVersion]:
    written = await _notes(reader, sorted({row.loop for row in rows}), [row.number for row in rows])
    found = []
    for row in rows:
        loop, of = states[row.loop], written.get((row.loop, row.number), _NOTHING)
        found.append(
            ModelVersion(
                loop=row.loop,
                number=row.number,
                model=ModelTrainedData.model_validate_json(row.model),
                created_ms=row.time_us // 1000,
                updated_ms=max(row.time_us // 1000, of[1]),
                past=row.past,
                kept=row.version in loop.kept and not row.past,
                description=of[0],
                tags=of[2],
                aliases=() if row.past else tuple(a for a, v in Aliases.of(loop).given().items() if v == row.version),
            )
        )
    return found


_NOTHING: tuple[str, int, dict[str, str]] = ("", 0, {})


async def _numbers(reader: AsyncConnection, states: Iterable[Loop]) -> dict[tuple[str, str], int]:
    """The numbers of the versions that have an alias."""
    named = {loop.loop: set(Aliases.of(loop).given().values()) for loop in states}
    query = sql.select(versions.c.loop, versions.c.version, versions.c.number).where(
        versions.c.loop.in_(list(named)), versions.c.version.in_([v for of in named.values() for v in of])
    )
    return {(row.loop, row.version): row.number for row in await reader.execute(query)}


async def _notes(reader: AsyncConnection, names: Sequence[str], numbers: Sequence[int] = (0,)) -> Notes:
    found: Notes = {}
    of = (notes.c.loop.in_(names), notes.c.number.in_(numbers))
    for row in await reader.execute(sql.select(notes).where(*of)):
        found[row.loop, row.number] = (row.description, row.updated_ms, {})
    tagged = sql.select(note_tags).where(note_tags.c.loop.in_(names), note_tags.c.number.in_(numbers))
    for row in await reader.execute(tagged.order_by(note_tags.c.key)):
        found.setdefault((row.loop, row.number), ("", 0, {}))[2][row.key] = row.value
    return found
