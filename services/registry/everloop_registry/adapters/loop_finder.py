"""Finds the loop that an experiment, a run or a logged model belongs to."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql

from everloop_registry.adapters.tracking_rows import find_experiment_named
from everloop_registry.adapters.version_reader import SqlVersionReader
from everloop_registry.domain.tracking import experiment_id
from everloop_registry.tables import experiments, logged_models, loops, runs
from everloop_shared.database import Database


class SqlLoopFinder:
    """Reads what is committed. An experiment belongs to a loop, deleted or not, if it has the id that a loop's has."""

    def __init__(self, database: Database) -> None:
        self._database, self._versions = database, SqlVersionReader(database)

    async def loops(self) -> list[str]:
        """Every name that is or was a loop's."""
        async with self._database.reading() as reader:
            return list(await reader.scalars(sql.select(loops.c.loop)))

    async def of_experiment(self, experiment: str) -> str | None:
        """The loop of an experiment."""
        return await self._find(experiments.c.id == experiment)

    async def of_experiment_named(self, name: str) -> str | None:
        """The loop of the experiment of this name."""
        async with self._database.reading() as reader:
            found = await find_experiment_named(reader, name)
        return None if found is None else await self.of_experiment(found.id)

    async def of_run(self, run: str) -> str | None:
        """The loop of a run's experiment."""
        return await self._find(experiments.c.id == _one(sql.select(runs.c.experiment).where(runs.c.id == run)))

    async def of_logged_model(self, model: str) -> str | None:
        """The loop of a logged model's experiment."""
        of = sql.select(logged_models.c.experiment).where(logged_models.c.id == model)
        return await self._find(experiments.c.id == _one(of))

    async def of_versions(self, run: str) -> list[str]:
        """The loops of the versions that a run led to."""
        return sorted({loop for loop, _ in await self._versions.of_run(run)})

    async def _find(self, which: sql.ColumnElement[bool]) -> str | None:
        query = sql.select(experiments.c.id, loops.c.loop).join(loops, loops.c.loop == experiments.c.key)
        async with self._database.reading() as reader:
            row = (await reader.execute(query.where(which))).first()
        return str(row.loop) if row and row.id == experiment_id(row.loop) else None


def _one(query: sql.Select[Any]) -> Any:
    return query.scalar_subquery()
