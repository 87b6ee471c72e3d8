"""Folds decisions into the tables that MLflow's clients read: versions with their numbers and tags, and experiments."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_registry.adapters.tracking_fold import put, update_or_insert
from everloop_registry.domain.mlflow_model import run_of
from everloop_registry.domain.tracking import experiment_id, experiment_location, to_millis, version_tags
from everloop_registry.tables import experiments, note_tags, to_micros, versions
from everloop_schemas.registry import Decided, LoopApplied, LoopDeleted, VersionRegistered


async def fold_decisions(connection: AsyncConnection, decided: Sequence[Decided]) -> None:
    """Apply new decisions in order."""
    for decision in decided:
        match decision:
            case VersionRegistered():
                await _add_version(connection, decision)
            case LoopApplied():
                await _apply_loop(connection, decision)
            case LoopDeleted():
                await _delete_loop(connection, decision)


async def _add_version(connection: AsyncConnection, decision: VersionRegistered) -> None:
    loop, model = decision.loop, decision.data.model
    highest = sql.select(sql.func.max(versions.c.number)).where(versions.c.loop == loop)
    number = int(await connection.scalar(highest) or 0) + 1
    row = {
        "loop": loop,
        "version": model.version,
        "model": model.model_dump_json(),
        "number": number,
        "time_us": to_micros(decision.time),
        "run": run_of(model),
        "past": False,
    }
    await connection.execute(sql.insert(versions), row)
    of = {"loop": loop, "number": number}
    await put(connection, note_tags, [{**of, "key": key, "value": value} for key, value in version_tags(model).items()])


async def _apply_loop(connection: AsyncConnection, decision: LoopApplied) -> None:
    """Every loop has an experiment, from its first decision on; it is restored when the loop is applied again."""
    loop, now = decision.loop, to_millis(decision.time)
    location = experiment_location(experiment_id(loop))
    first = {"key": loop, "name": loop, "artifact_location": location, "created_ms": now, "updated_ms": now}
    await update_or_insert(connection, experiments, {"id": experiment_id(loop)}, first, {"stage": "active"})


async def _delete_loop(connection: AsyncConnection, decision: LoopDeleted) -> None:
    loop, now = decision.loop, to_millis(decision.time)
    end = sql.update(experiments).where(experiments.c.id == experiment_id(loop))
    await connection.execute(end.values(stage="deleted", updated_ms=now))
    await connection.execute(sql.update(versions).where(versions.c.loop == loop).values(past=True))
