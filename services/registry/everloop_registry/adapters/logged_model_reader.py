"""Reads logged models from the SQL tables, for queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_registry.adapters.search import Related, Searched
from everloop_registry.adapters.tracking_rows import find_logged_model, find_texts, metric_of
from everloop_registry.domain.filters import Condition, Kind, Order
from everloop_registry.domain.pages import Page, Paging
from everloop_registry.domain.tracking import LoggedModel, LoggedModelDetails
from everloop_registry.tables import logged_model_parameters, logged_model_tags, logged_models, metrics
from everloop_schemas.tracking import Metric
from everloop_shared.database import Database

MAX_METRICS = 10_000
"""Values of metrics that are read for the models of one answer."""


class SqlLoggedModelReader:
    """Reads what is committed, on snapshots beside the writer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._backend = database.url.get_backend_name()

    async def logged_model(self, model: str) -> LoggedModel | None:
        """The logged model of this id, unless it is deleted."""
        async with self._database.reading() as reader:
            return await find_logged_model(reader, model)

    async def search_logged_models(
        self, experiments: Sequence[str], conditions: Sequence[Condition], orders: Sequence[Order], paging: Paging
    ) -> Page[LoggedModelDetails]:
        """The logged models of experiments that match, newest first unless ordered otherwise."""
        of = (logged_models.c.experiment.in_(experiments), logged_models.c.stage != "deleted")
        searched = self._searched(experiments)
        query = searched.ordered(sql.select(logged_models).where(*of, *searched.matches(conditions)), orders)
        query = query.order_by(logged_models.c.created_ms.desc(), logged_models.c.id)
        async with self._database.reading() as reader:
            page = paging.page((await reader.execute(query.offset(paging.start).limit(paging.limit))).all())
            found = [LoggedModel(**row._mapping) for row in page.found]
            return Page(await _details(reader, found), page.token)

    def _searched(self, experiments: Sequence[str]) -> Searched:
        """What is searched: the logged models of these experiments."""
        inside, of_model = logged_models.alias(), {"model": logged_models.c.id}
        among = sql.select(inside.c.id).where(inside.c.experiment.in_(experiments))
        related: dict[Kind, Related] = {
            "metric": Related(_latest_metrics(among), of_model),
            "parameter": Related(logged_model_parameters, of_model),
            "tag": Related(logged_model_tags, of_model),
        }
        return Searched({c.name: c for c in logged_models.c}, related, self._backend)

    async def named_in_run(self, run: str, name: str) -> LoggedModel | None:
        """The model that a run logged last under a name."""
        of = (logged_models.c.run == run, logged_models.c.name == name, logged_models.c.stage != "deleted")
        query = sql.select(logged_models).where(*of).order_by(logged_models.c.created_ms.desc()).limit(1)
        async with self._database.reading() as reader:
            row = (await reader.execute(query)).first()
            return LoggedModel(**row._mapping) if row else None

    async def details(self, models: Sequence[LoggedModel]) -> list[LoggedModelDetails]:
        """What was logged about each; of a metric the last value."""
        async with self._database.reading() as reader:
            return await _details(reader, models)


async def _details(reader: AsyncConnection, models: Sequence[LoggedModel]) -> list[LoggedModelDetails]:
    ids = [model.id for model in models]
    parameters = await find_texts(reader, logged_model_parameters, "model", ids)
    tags = await find_texts(reader, logged_model_tags, "model", ids)
    found: dict[str, list[Metric]] = defaultdict(list)
    latest = _latest_metrics(ids)
    for row in await reader.execute(sql.select(latest).order_by(latest.c.model, latest.c.key).limit(MAX_METRICS)):
        found[row.model].append(metric_of(row))
    return [LoggedModelDetails(m, parameters[m.id], tags[m.id], tuple(found[m.id])) for m in models]


def _latest_metrics(models: Sequence[str] | sql.Select[Any]) -> sql.Subquery:
    """Of each metric of these models the value with the highest step, then time, then value."""
    latest_first = (metrics.c.step.desc(), metrics.c.time_ms.desc(), metrics.c.value.desc())
    rank = sql.func.row_number().over(partition_by=(metrics.c.model, metrics.c.key), order_by=latest_first)
    ranked = sql.select(metrics, rank.label("rank")).where(metrics.c.model.in_(models)).subquery()
    return sql.select(ranked).where(ranked.c.rank == 1).subquery()
