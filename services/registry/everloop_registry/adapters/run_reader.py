"""Reads and searches runs and experiments, for queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_registry import tables as t
from everloop_registry.adapters.search import Related, Searched
from everloop_registry.adapters.tracking_rows import find_texts, metric_of
from everloop_registry.domain.filters import Condition, Order
from everloop_registry.domain.pages import Page, Paging
from everloop_registry.domain.run_search import STAGES, LoggedRun, ViewType
from everloop_registry.domain.tracking import Experiment, Run, experiment_id
from everloop_schemas.tracking import DataSetInput, Metric, ModelLink
from everloop_shared.database import Database

RUN_ROW = sql.select(t.runs, t.experiments.c.artifact_location.label("location")).join(
    t.experiments, t.experiments.c.id == t.runs.c.experiment
)


class SqlRunReader:
    """Reads what is committed, on snapshots beside the writer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        backend, of_run = database.url.get_backend_name(), {"run": t.runs.c.id}
        self._runs = Searched(
            {c.name: c for c in t.runs.c},
            {
                "metric": Related(t.latest_metrics, of_run),
                "parameter": Related(t.parameters, of_run),
                "tag": Related(t.run_tags, of_run),
                "dataset": Related(t.run_inputs, of_run),
            },
            backend,
        )
        tags = Related(t.experiment_tags, {"experiment": t.experiments.c.id})
        self._experiments = Searched({c.name: c for c in t.experiments.c}, {"tag": tags}, backend)

    async def run(self, run: str) -> LoggedRun | None:
        """One run."""
        async with self._database.reading() as reader:
            rows = (await reader.execute(RUN_ROW.where(t.runs.c.id == run))).all()
            return next(iter(await _logged(reader, rows)), None)

    async def search_runs(
        self,
        experiments: Sequence[str],
        view: ViewType,
        conditions: Sequence[Condition],
        orders: Sequence[Order],
        paging: Paging,
    ) -> Page[LoggedRun]:
        """The runs of these experiments that match, the one that began last first unless ordered otherwise."""
        of = (t.runs.c.experiment.in_(experiments), t.runs.c.stage.in_(STAGES[view]))
        query = self._runs.ordered(RUN_ROW.where(*of, *self._runs.matches(conditions)), orders)
        query = query.order_by(t.runs.c.started_ms.desc(), t.runs.c.id).offset(paging.start).limit(paging.limit)
        async with self._database.reading() as reader:
            page = paging.page((await reader.execute(query)).all())
            return Page(await _logged(reader, page.found), page.token)

    async def search_experiments(
        self,
        view: ViewType,
        conditions: Sequence[Condition],
        orders: Sequence[Order],
        paging: Paging,
        among: Collection[str] | None = None,
    ) -> Page[tuple[Experiment, dict[str, str]]]:
        """The experiments that match with their tags, the one created last first unless ordered otherwise."""
        query = sql.select(t.experiments).where(t.experiments.c.stage.in_(STAGES[view]))
        if among is not None:
            query = query.where(t.experiments.c.id.in_([experiment_id(loop) for loop in among]))
        query = self._experiments.ordered(query.where(*self._experiments.matches(conditions)), orders)
        query = query.order_by(t.experiments.c.created_ms.desc(), t.experiments.c.id)
        async with self._database.reading() as reader:
            page = paging.page((await reader.execute(query.offset(paging.start).limit(paging.limit))).all())
            found = [Experiment(**row._mapping) for row in page.found]
            tags = await find_texts(reader, t.experiment_tags, "experiment", [each.id for each in found])
            return Page([(each, tags[each.id]) for each in found], page.token)

    async def metric_history(self, run: str, key: str, paging: Paging) -> Page[Metric]:
        """All values of a metric, in the order of their steps."""
        m = t.metrics.c
        query = sql.select(t.metrics).where(m.run == run, m.key == key).order_by(m.step, m.time_ms, m.value)
        async with self._database.reading() as reader:
            page = paging.page((await reader.execute(query.offset(paging.start).limit(paging.limit))).all())
            return Page([metric_of(row) for row in page.found], page.token)


async def _logged(reader: AsyncConnection, rows: Sequence[Any]) -> list[LoggedRun]:
    ids = [row.id for row in rows]
    tags = await find_texts(reader, t.run_tags, "run", ids)
    parameters = await find_texts(reader, t.parameters, "run", ids)
    metrics, inputs, models = defaultdict(list), defaultdict(list), defaultdict(list)
    latest = sql.select(t.latest_metrics).where(t.latest_metrics.c.run.in_(ids)).order_by(t.latest_metrics.c.key)
    for row in await reader.execute(latest):
        metrics[row.run].append(metric_of(row))
    read = sql.select(t.run_inputs.c.run, t.run_inputs.c.data_set).where(t.run_inputs.c.run.in_(ids))
    for row in await reader.execute(read.order_by(t.run_inputs.c.name)):
        inputs[row.run].append(DataSetInput.model_validate_json(row.data_set))
    linked = sql.select(t.run_models).where(t.run_models.c.run.in_(ids)).order_by(t.run_models.c.model)
    for row in await reader.execute(linked):
        models[row.run].append(ModelLink(model=row.model, direction=row.direction, step=row.step))
    names = Run.__dataclass_fields__
    return [
        LoggedRun(
            run=Run(**{name: row._mapping[name] for name in names}),
            location=row.location,
            metrics=metrics[row.id],
            parameters=parameters[row.id],
            tags=tags[row.id],
            inputs=inputs[row.id],
            models=models[row.id],
        )
        for row in rows
    ]
