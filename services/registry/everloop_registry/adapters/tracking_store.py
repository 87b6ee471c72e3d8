"""Stores tracking data in SQL tables, within a unit of work, as the fold of the events that it returns."""

from __future__ import annotations

import sqlalchemy as sql

from everloop_registry.adapters.tracking_fold import fold, put, update_or_insert
from everloop_registry.adapters.tracking_rows import (
    find_experiment,
    find_experiment_named,
    find_logged_model,
    find_run,
    find_texts,
    metric_of,
)
from everloop_registry.domain.decision_log import DecisionContext
from everloop_registry.domain.tracking import (
    DEFAULT_EXPERIMENT,
    DEFAULT_NAME,
    Experiment,
    LoggedModel,
    Run,
    experiment_location,
)
from everloop_registry.tables import (
    experiments,
    latest_metrics,
    logged_models,
    loops,
    parameters,
    run_tags,
    runs,
    tracking_keys,
    versions,
)
from everloop_schemas.envelope import derived_id
from everloop_schemas.tracking import Metric, RunLogged, RunLoggedData
from everloop_shared.errors import InputRejected
from everloop_shared.outbox import SqlUnitOfWork


class SqlTrackingStore:
    """The tracking data, in the open transaction of a unit of work."""

    def __init__(self, unit: SqlUnitOfWork) -> None:
        self._unit = unit

    async def append(self, key: str, subject: str, data: RunLoggedData, context: DecisionContext) -> RunLogged:
        """Fold what is logged into the tables and return it as an event, which the caller publishes."""
        sequence = await self._last(key) + 1
        event = RunLogged(
            id=derived_id(key, RunLogged.type_name(), sequence),
            time=context.now,
            subject=subject,
            loop=key,
            causationid=context.event_id,
            traceparent=context.traceparent,
            actor=context.actor,
            actor_kind=context.actor_kind,
            actor_source=context.actor_source,
            sequence=sequence,
            data=data,
        )
        await self._fold(event)
        return event

    async def replay(self, event: RunLogged) -> bool:
        """Fold an event of the topic, unless the tables hold it already; returns whether it was new.

        Raises InputRejected for one that does not follow the last one of its key: no registry wrote it.
        """
        last = await self._last(event.loop)
        if event.sequence <= last:
            return False
        if event.sequence > last + 1:
            raise InputRejected(f"number {event.sequence} does not follow {last}")
        await self._fold(event)
        return True

    async def experiment(self, experiment: str) -> Experiment | None:
        """The experiment of this id."""
        return await find_experiment(self._unit.connection, experiment)

    async def experiment_named(self, name: str) -> Experiment | None:
        """The experiment of this name."""
        return await find_experiment_named(self._unit.connection, name)

    async def run(self, run: str) -> Run | None:
        """The run of this id."""
        return await find_run(self._unit.connection, run)

    async def logged_model(self, model: str) -> LoggedModel | None:
        """The logged model of this id."""
        return await find_logged_model(self._unit.connection, model)

    async def count_logged_models(self, experiment: str) -> int:
        """Count rows."""
        count = sql.select(sql.func.count()).where(logged_models.c.experiment == experiment)
        return int(await self._unit.connection.scalar(count) or 0)

    async def run_tags(self, run: str) -> dict[str, str]:
        """The tags of a run."""
        return (await find_texts(self._unit.connection, run_tags, "run", [run]))[run]

    async def parameters(self, run: str) -> dict[str, str]:
        """The parameters of a run."""
        return (await find_texts(self._unit.connection, parameters, "run", [run]))[run]

    async def latest_metric(self, run: str, key: str) -> Metric | None:
        """The latest value of a metric."""
        of = (latest_metrics.c.run == run, latest_metrics.c.key == key)
        row = (await self._unit.connection.execute(sql.select(latest_metrics).where(*of))).first()
        return metric_of(row) if row else None

    async def count_runs(self, experiment: str) -> int:
        """Count rows."""
        count = sql.select(sql.func.count()).select_from(runs).where(runs.c.experiment == experiment)
        return int(await self._unit.connection.scalar(count) or 0)

    async def count_experiments(self) -> int:
        """Count rows."""
        return int(await self._unit.connection.scalar(sql.select(sql.func.count()).select_from(experiments)) or 0)

    async def is_loop(self, name: str) -> bool:
        """Whether there is a row."""
        return await self._has(loops, loops.c.loop == name)

    async def has_living_loop(self, name: str) -> bool:
        """Whether there is a row that is not marked."""
        return await self._has(loops, loops.c.loop == name, loops.c.deleted.is_(False))

    async def has_version(self, loop: str, number: int) -> bool:
        """Whether there is a row."""
        return await self._has(versions, versions.c.loop == loop, versions.c.number == number)

    async def add_default_experiment(self) -> None:
        """Make the experiment of runs that name none, which exists without an event."""
        row = {"key": DEFAULT_EXPERIMENT, "name": DEFAULT_NAME, "stage": "active", "created_ms": 0, "updated_ms": 0}
        first = {**row, "artifact_location": experiment_location(DEFAULT_EXPERIMENT)}
        await update_or_insert(self._unit.connection, experiments, {"id": DEFAULT_EXPERIMENT}, first, {})

    async def _has(self, table: sql.Table, *where: sql.ColumnElement[bool]) -> bool:
        found = await self._unit.connection.scalar(sql.select(sql.literal(1)).select_from(table).where(*where).limit(1))
        return found is not None

    async def _last(self, key: str) -> int:
        query = sql.select(tracking_keys.c.sequence).where(tracking_keys.c.key == key).with_for_update()
        found = await self._unit.connection.scalar(query)
        return -1 if found is None else int(found)

    async def _fold(self, event: RunLogged) -> None:
        await put(self._unit.connection, tracking_keys, [{"key": event.loop, "sequence": event.sequence}])
        await fold(self._unit.connection, event)
