"""Reads loops and decisions from the SQL tables, for HTTP queries and for the dump."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sql

from everloop_registry.adapters.erasure_reader import read_erasures
from everloop_registry.adapters.team_uses import read_team_uses
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.team_use import TeamUse
from everloop_registry.domain.working_state import SubstituteVersion, WorkingState
from everloop_registry.tables import decisions, loops, to_micros, versions, working
from everloop_schemas.erasure import ErasureConfirmed, ErasureDecided
from everloop_shared.database import Database


class SqlLoopReader:
    """Reads what is committed, on snapshots beside the writer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def team_uses(self) -> dict[str, TeamUse]:
        """What every team has."""
        async with self._database.reading() as reader:
            return await read_team_uses(reader)

    async def loops(self, deleted: bool = False) -> list[Loop]:
        """Every loop."""
        async with self._database.reading() as reader:
            rows = await reader.execute(sql.select(loops.c.loop, loops.c.state).where(loops.c.deleted == deleted))
            return [Loop.model_validate_json(row.state) for row in sorted(rows, key=lambda r: str(r.loop))]

    async def loop(self, name: str) -> Loop | None:
        """One loop."""
        async with self._database.reading() as reader:
            state = await reader.scalar(sql.select(loops.c.state).where(loops.c.loop == name))
            return Loop.model_validate_json(state) if state else None

    async def waiting_for_approval(self) -> list[str]:
        """The loops whose state has one, which the spec in it cannot: there, `approval` is a word."""
        async with self._database.reading() as reader:
            has_one = loops.c.state.contains('"approval":{"version"', autoescape=True)
            return list(await reader.scalars(sql.select(loops.c.loop).where(has_one).order_by(loops.c.loop)))

    async def erasures(self, loop: str, entity: str) -> list[ErasureDecided | ErasureConfirmed]:
        """The decisions whose subject it is."""
        async with self._database.reading() as reader:
            return await read_erasures(reader, loop, entity)

    async def substitutes(self, name: str) -> dict[str, SubstituteVersion]:
        """What instances serve in place of the champion."""
        async with self._database.reading() as reader:
            stored = await reader.scalar(sql.select(working.c.state).where(working.c.loop == name))
            return WorkingState.model_validate_json(stored).substitutes if stored else {}

    async def wires(self, loop: str, until: datetime | None = None, kind: str | None = None) -> list[bytes]:
        """A loop's decisions."""
        query = sql.select(decisions.c.wire).where(decisions.c.loop == loop).order_by(decisions.c.sequence)
        if until is not None:
            query = query.where(decisions.c.time_us <= to_micros(until))
        if kind is not None:
            query = query.where(decisions.c.type == kind)
        async with self._database.reading() as reader:
            return list(await reader.scalars(query))

    async def dump(self) -> str:
        """All that is a fold of decisions, as canonical JSON: what a rebuild must give again."""
        async with self._database.reading() as reader:
            # sorted here, by code point: databases differ in how they order text
            published = sorted(await reader.execute(sql.select(decisions)), key=lambda r: (r.loop, r.sequence))
            registered = sorted(await reader.execute(sql.select(versions)), key=lambda r: (r.loop, r.version))
            folds = sorted(await reader.execute(sql.select(loops)), key=lambda r: str(r.loop))
            whole: dict[str, list[Any]] = {
                "loops": [[r.head, json.loads(r.state)] for r in folds],
                "versions": [[r.loop, json.loads(r.model)] for r in registered],
                "decisions": [json.loads(r.wire) for r in published],
            }
        return json.dumps(whole, sort_keys=True, indent=1)
