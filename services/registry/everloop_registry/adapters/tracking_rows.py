"""Rows of the tracking tables as the objects that they stand for, on any connection."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_registry.domain.tracking import Experiment, LoggedModel, Run, experiment_id
from everloop_registry.tables import experiments, logged_models, run_tags, runs
from everloop_schemas.tracking import Metric


async def find_experiment(connection: AsyncConnection, experiment: str) -> Experiment | None:
    """The experiment of this id."""
    row = (await connection.execute(sql.select(experiments).where(experiments.c.id == experiment))).first()
    return Experiment(**row._mapping) if row else None


async def find_experiment_named(connection: AsyncConnection, name: str) -> Experiment | None:
    """The experiment of this name; of several the loop's, which has the id that follows from the name."""
    is_first = experiments.c.id == experiment_id(name)
    query = sql.select(experiments).where(experiments.c.name == name).order_by(is_first.desc()).limit(1)
    row = (await connection.execute(query)).first()
    return Experiment(**row._mapping) if row else None


async def find_run(connection: AsyncConnection, run: str) -> Run | None:
    """The run of this id."""
    row = (await connection.execute(sql.select(runs).where(runs.c.id == run))).first()
    return Run(**row._mapping) if row else None


def runs_tagged(loop: str, key: str, value: str) -> sql.Select[Any]:
    """The ids of a loop's runs that have this value of a tag, as a query."""
    tagged = (run_tags.c.key == key, run_tags.c.value == value, runs.c.experiment == experiment_id(loop))
    return sql.select(runs.c.id).join(run_tags, run_tags.c.run == runs.c.id).where(*tagged)


async def find_logged_model(connection: AsyncConnection, model: str) -> LoggedModel | None:
    """The logged model of this id, unless it is deleted."""
    is_it = (logged_models.c.id == model, logged_models.c.stage != "deleted")
    row = (await connection.execute(sql.select(logged_models).where(*is_it))).first()
    return LoggedModel(**row._mapping) if row else None


def metric_of(row: sql.Row[Any]) -> Metric:
    """The value of a metric in a row of any table of metrics."""
    named = {name: row._mapping.get(name) for name in Metric.model_fields}
    return Metric.model_validate({name: value for name, value in named.items() if value not in (None, "")})


async def find_texts(
    connection: AsyncConnection, table: sql.Table, owner: str, ids: list[str]
) -> dict[str, dict[str, str]]:
    """The texts, such as tags, of several owners: by owner, then by key."""
    query = sql.select(table.c[owner], table.c.key, table.c.value).where(table.c[owner].in_(ids)).order_by(table.c.key)
    found: dict[str, dict[str, str]] = {one: {} for one in ids}
    for of, key, value in await connection.execute(query):
        found[of][key] = value
    return found
