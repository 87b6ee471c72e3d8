"""Reads logged models from the SQL tables, for queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import sqlalchemy as sql

from everloop_registry.adapters.tracking_rows import find_logged_model, find_texts
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

    async def logged_model(self, model: str) -> LoggedModel | None:
        """The logged model of this id, unless it is deleted."""
        async with self._database.reading() as reader:
            return await find_logged_model(reader, model)

    async def logged_models(self, experiments: Sequence[str]) -> list[LoggedModel]:
        """The logged models of experiments, newest first."""
        of = (logged_models.c.experiment.in_(experiments), logged_models.c.stage != "deleted")
        order = (logged_models.c.created_ms.desc(), logged_models.c.id)
        async with self._database.reading() as reader:
            rows = await reader.execute(sql.select(logged_models).where(*of).order_by(*order))
            return [LoggedModel(**row._mapping) for row in rows]

    async def named_in_run(self, run: str, name: str) -> LoggedModel | None:
        """The model that a run logged last under a name."""
        of = (logged_models.c.run == run, logged_models.c.name == name, logged_models.c.stage != "deleted")
        query = sql.select(logged_models).where(*of).order_by(logged_models.c.created_ms.desc()).limit(1)
        async with self._database.reading() as reader:
            row = (await reader.execute(query)).first()
            return LoggedModel(**row._mapping) if row else None

    async def details(self, models: Sequence[LoggedModel]) -> list[LoggedModelDetails]:
        """What was logged about each; of a metric the last value."""
        ids = [model.id for model in models]
        query = sql.select(metrics).where(metrics.c.model.in_(ids)).order_by(metrics.c.step, metrics.c.time_ms)
        async with self._database.reading() as reader:
            parameters = await find_texts(reader, logged_model_parameters, "model", ids)
            tags = await find_texts(reader, logged_model_tags, "model", ids)
            rows = (await reader.execute(query.limit(MAX_METRICS))).all()
        latest: dict[str, dict[str, Metric]] = defaultdict(dict)
        for row in rows:
            named = {name: row._mapping[name] for name in Metric.model_fields}
            latest[row.model][row.key] = Metric(**named)
        return [LoggedModelDetails(m, parameters[m.id], tags[m.id], tuple(latest[m.id].values())) for m in models]
