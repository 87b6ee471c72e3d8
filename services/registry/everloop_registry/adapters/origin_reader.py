"""Reads where versions came from, and what came of runs, from the SQL tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_learning.version import line_of
from everloop_registry.adapters.tracking_rows import find_run, find_texts, runs_tagged
from everloop_registry.domain.origins import MAX_DECISIONS, MAX_RUNS, OriginVersion, RunOrigin
from everloop_registry.domain.run_records import ASKER, CAUSE, LINE, TRIGGER
from everloop_registry.domain.tracking import TAG_PREFIX, experiment_id
from everloop_registry.tables import decisions, run_inputs, run_tags, runs, versions
from everloop_schemas.catalogue import decode
from everloop_schemas.envelope import utc_time
from everloop_schemas.registry import Decided, ModelRefreshed, VersionRegistered
from everloop_schemas.training import ModelTrainedData
from everloop_shared.database import Database

OF_ONE_VERSION = (VersionRegistered.type_name(), ModelRefreshed.type_name())
"""Decisions about one version, and not about its line: there may be thousands of them."""
STATES = {"RUNNING": "running", "FINISHED": "trained", "FAILED": "failed"}
"""What MLflow's states of a run are called by training."""


class SqlOriginReader:
    """Reads what is committed, each answer from one snapshot."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_version(self, loop: str, version: str) -> RunOrigin | None:
        """The run of a version, with this version alone; None for one that is not registered."""
        query = sql.select(versions).where(versions.c.loop == loop, versions.c.version == version)
        async with self._database.reading() as reader:
            if (row := (await reader.execute(query)).first()) is None:
                return None
            found = _version(row)
            return await _origin(reader, loop, str(row.run), [found], False, line_of(version), version)

    async def of_run(self, loop: str, run: str, below: int | None, limit: int) -> RunOrigin | None:
        """A run with its newest versions below a number; None for one that this loop has not."""
        async with self._database.reading() as reader:
            known = await find_run(reader, run)
            if known is None or known.experiment != experiment_id(loop):
                return None
            return await _with_versions(reader, loop, run, below, limit)

    async def of_cause(self, loop: str, causationid: str, limit: int) -> list[RunOrigin]:
        """The first runs that an event led to, oldest first, each with its newest versions."""
        query = runs_tagged(loop, CAUSE, causationid)
        async with self._database.reading() as reader:
            ids = list(await reader.scalars(query.order_by(runs.c.started_ms, runs.c.id).limit(MAX_RUNS)))
            return [await _with_versions(reader, loop, run, None, limit) for run in ids]


async def _with_versions(reader: AsyncConnection, loop: str, run: str, below: int | None, limit: int) -> RunOrigin:
    query = sql.select(versions).where(versions.c.loop == loop, versions.c.run == run)
    if below is not None:
        query = query.where(versions.c.number < below)
    rows = (await reader.execute(query.order_by(versions.c.number.desc()).limit(limit + 1))).all()
    found = [_version(row) for row in rows[:limit]]
    return await _origin(reader, loop, run, found, len(rows) > limit, found[0].model.line if found else "")


async def _origin(
    reader: AsyncConnection,
    loop: str,
    run: str,
    found: Sequence[OriginVersion],
    more: bool,
    line: str,
    version: str | None = None,
) -> RunOrigin:
    known = await find_run(reader, run)
    tags = (await find_texts(reader, run_tags, "run", [run]))[run]
    line = tags.get(LINE, line)
    inputs = sql.select(run_inputs.c.name).where(run_inputs.c.run == run).order_by(run_inputs.c.name)
    return RunOrigin(
        run=run,
        line=line,
        trigger=tags.get(TRIGGER),
        reason=tags.get(f"{TAG_PREFIX}reason"),
        causationid=tags.get(CAUSE),
        requested_by=tags.get(ASKER),
        requested=utc_time(known.started_ms / 1000) if known and TRIGGER in tags else None,
        state=STATES.get(known.status) if known else None,
        data_sets=list(await reader.scalars(inputs.limit(MAX_RUNS))),
        versions=found,
        more=more,
        decisions=await _decisions(reader, loop, line, version),
    )


async def _decisions(reader: AsyncConnection, loop: str, line: str, version: str | None) -> list[Decided]:
    """The last decisions about a line, and those about one version of it."""
    subject = decisions.c.subject
    of_line = sql.and_(
        sql.or_(subject == line, subject.startswith(f"{line}@", autoescape=True)),
        decisions.c.type.not_in(OF_ONE_VERSION),
    )
    about = of_line if version is None else sql.or_(of_line, subject == version)
    query = sql.select(decisions.c.wire).where(decisions.c.loop == loop, about)
    wires = await reader.scalars(query.order_by(decisions.c.sequence.desc()).limit(MAX_DECISIONS))
    found = [decode(Decided.topic.name, wire) for wire in wires]
    return [decision for decision in reversed(found) if isinstance(decision, Decided)]


def _version(row: sql.Row[Any]) -> OriginVersion:
    model = ModelTrainedData.model_validate_json(row.model)
    return OriginVersion(row.number, model, utc_time(row.time_us / 1_000_000))
