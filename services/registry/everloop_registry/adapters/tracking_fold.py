"""Folds what was logged into the tables of experiments, runs, logged models and notes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_registry import tables as t
from everloop_registry.domain.tracking import experiment_location, model_artifacts, to_millis
from everloop_schemas.tracking import ExperimentChange, LoggedModelChange, Metric, NoteChange, RunChange, RunLogged
from everloop_shared.sql_dialects import insert_into

Values = Mapping[str, Any]


async def fold(connection: AsyncConnection, event: RunLogged) -> None:
    """Apply one event to the tables; the caller has checked that it is the next one of its key."""
    data, now = event.data, to_millis(event.time)
    if data.experiment is not None:
        await _fold_experiment(connection, data.experiment, event.loop, now)
    if data.run is not None:
        await _fold_run(connection, data.run, now)
    if data.model is not None:
        await _fold_model(connection, data.model, now)
    if data.note is not None:
        await _fold_note(connection, data.note, event.loop, now)


async def _fold_experiment(connection: AsyncConnection, change: ExperimentChange, key: str, now: int) -> None:
    first = {
        "key": key,
        "name": change.id,
        "stage": "active",
        "artifact_location": experiment_location(change.id),
        "created_ms": now,
    }
    await update_or_insert(connection, t.experiments, {"id": change.id}, first, {**_given(change), "updated_ms": now})
    await _set_texts(connection, t.experiment_tags, {"experiment": change.id}, change.tags, change.deleted_tags)


async def _fold_run(connection: AsyncConnection, change: RunChange, now: int) -> None:
    run = {"run": change.id}
    first = {"name": "", "user": "", "status": "RUNNING", "stage": "active", "started_ms": now, "logged": 0}
    await update_or_insert(connection, t.runs, {"id": change.id}, first, _given(change))
    await _set_texts(connection, t.run_tags, run, change.tags, change.deleted_tags)
    await _set_texts(connection, t.parameters, run, change.parameters)
    await _add_metrics(connection, change.id, change.metrics)
    inputs = [
        {
            **run,
            "name": data_set.name,
            "digest": data_set.digest,
            "context": data_set.tags.get("mlflow.data.context", ""),
            "data_set": data_set.model_dump_json(),
        }
        for data_set in change.inputs
    ]
    await put(connection, t.run_inputs, inputs)
    links = [{**run, "model": link.model, "direction": link.direction, "step": link.step} for link in change.models]
    await put(connection, t.run_models, links)


async def _fold_model(connection: AsyncConnection, change: LoggedModelChange, now: int) -> None:
    of_experiment = sql.select(t.experiments.c.artifact_location).where(t.experiments.c.id == change.experiment)
    location = await connection.scalar(of_experiment) or experiment_location(change.experiment)
    first = {
        "name": "",
        "kind": "",
        "status": "LOGGED_MODEL_PENDING",
        "message": "",
        "stage": "active",
        "artifact_location": model_artifacts(location, change.id),
        "created_ms": now,
    }
    given = {**_given(change), "updated_ms": now}
    await update_or_insert(connection, t.logged_models, {"id": change.id}, first, given)
    model = {"model": change.id}
    await _set_texts(connection, t.logged_model_tags, model, change.tags, change.deleted_tags)
    await _set_texts(connection, t.logged_model_parameters, model, change.parameters)


async def _fold_note(connection: AsyncConnection, change: NoteChange, loop: str, now: int) -> None:
    key = {"loop": loop, "number": change.number or 0}
    given: Values = {} if change.description is None else {"description": change.description}
    await update_or_insert(connection, t.notes, key, {"description": ""}, {**given, "updated_ms": now})
    await _set_texts(connection, t.note_tags, key, change.tags, change.deleted_tags)


def _given(change: ExperimentChange | RunChange | LoggedModelChange) -> dict[str, Any]:
    """The plain fields that are given, apart from the id."""
    fields = change.model_dump(exclude_none=True, exclude={"id"})
    return {name: value for name, value in fields.items() if isinstance(value, str | int)}


async def update_or_insert(
    connection: AsyncConnection, table: sql.Table, key: Values, first: Values, given: Values
) -> None:
    """Update the row with what is given; a new row also gets what its first change leaves out."""
    at = [table.c[name] == value for name, value in key.items()]
    if given:
        if (await connection.execute(sql.update(table).where(*at).values(**given))).rowcount:
            return
    elif await connection.scalar(sql.select(sql.literal(1)).select_from(table).where(*at)):
        return
    await connection.execute(sql.insert(table), {**first, **given, **key})


async def _set_texts(
    connection: AsyncConnection,
    table: sql.Table,
    owner: Values,
    texts: Mapping[str, str],
    deleted: Collection[str] = (),
) -> None:
    await put(connection, table, [{**owner, "key": key, "value": value} for key, value in texts.items()])
    if deleted:
        of = [table.c[name] == value for name, value in owner.items()]
        await connection.execute(sql.delete(table).where(*of, table.c.key.in_(deleted)))


async def _add_metrics(connection: AsyncConnection, run: str, metrics: Sequence[Metric]) -> None:
    """Each value once, however often it is logged, and the latest of each metric beside them."""
    if not metrics:
        return
    count = sql.update(t.runs).where(t.runs.c.id == run).values(logged=t.runs.c.logged + len(metrics))
    await connection.execute(count)
    rows: list[dict[str, Any]] = [
        {
            "run": run,
            "key": m.key,
            "step": m.step,
            "time_ms": m.time_ms,
            "value": m.value,
            "nan": m.nan,
            "model": m.model or "",
            "data_set": m.data_set,
            "digest": m.digest,
        }
        for m in metrics
    ]
    await connection.execute(insert_into(t.metrics, connection.dialect.name).on_conflict_do_nothing(), rows)
    latest = dict[str, dict[str, Any]]()
    for row in sorted(rows, key=_recency):
        latest[row["key"]] = {name: row[name] for name in t.latest_metrics.c.keys()}
    new = insert_into(t.latest_metrics, connection.dialect.name)
    order = ("step", "time_ms", "value")
    is_later = sql.tuple_(*(new.excluded[c] for c in order)) >= sql.tuple_(*(t.latest_metrics.c[c] for c in order))
    values = {c.name: new.excluded[c.name] for c in t.latest_metrics.c if not c.primary_key}
    upsert = new.on_conflict_do_update(index_elements=["run", "key"], set_=values, where=is_later)
    await connection.execute(upsert, list(latest.values()))


def _recency(row: Values) -> tuple[int, int, float]:
    return row["step"], row["time_ms"], row["value"]


async def put(connection: AsyncConnection, table: sql.Table, rows: Sequence[Values]) -> None:
    """Insert rows; one whose key is there already takes its place."""
    if not rows:
        return
    new = insert_into(table, connection.dialect.name)
    values = {c.name: new.excluded[c.name] for c in table.c if not c.primary_key}
    keys = [c.name for c in table.primary_key]
    await connection.execute(new.on_conflict_do_update(index_elements=keys, set_=values), list(rows))
