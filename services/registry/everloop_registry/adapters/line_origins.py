"""Reads how a line came to be: from the decisions, and from the runs of training as they were logged."""

from __future__ import annotations

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_registry.adapters.loop_specs import find_applied
from everloop_registry.adapters.tracking_rows import find_texts, runs_tagged
from everloop_registry.domain.decision_log import REGISTRY_ACTOR
from everloop_registry.domain.four_eyes import LineOrigin, LineRun
from everloop_registry.domain.run_records import ASKER, LINE, REVISION, TRAINING_USER, TRIGGER
from everloop_registry.domain.spec_diff import SpecLine
from everloop_registry.tables import decisions, parameters, run_tags, runs
from everloop_schemas.registry import VersionRegistered

MAX_SPEC_LINES = 200
"""A spec has ten models at most; those of earlier revisions are not asked for."""


async def find_origin(connection: AsyncConnection, loop: str, line: str) -> LineOrigin:
    """The runs of a line with who requested them, who applied the loop's revisions, and who submitted its model."""
    applied = {one.revision: one.actor for one in await find_applied(connection, loop) if one.actor}
    return LineOrigin(await _runs(connection, loop, line), applied, await _submitter(connection, loop, line))


async def find_spec_lines(connection: AsyncConnection, loop: str, life: int) -> list[SpecLine]:
    """The last `MAX_SPEC_LINES` lines that began for a model of the spec in this lifetime of a loop, oldest first."""
    found = runs_tagged(loop, TRIGGER, "initial").where(runs.c.user == TRAINING_USER)
    newest_first = found.order_by(runs.c.started_ms.desc(), runs.c.id).limit(MAX_SPEC_LINES)
    ids = list(await connection.scalars(newest_first))[::-1]
    tags = await find_texts(connection, run_tags, "run", ids)
    said = await find_texts(connection, parameters, "run", ids)
    return [SpecLine(tags[run][LINE], said[run]) for run in ids if int(tags[run].get(REVISION, 0)) >= life]


async def _runs(connection: AsyncConnection, loop: str, line: str) -> tuple[LineRun, ...]:
    ids = list(await connection.scalars(runs_tagged(loop, LINE, line).order_by(runs.c.started_ms)))
    tags = await find_texts(connection, run_tags, "run", ids)
    return tuple(
        LineRun(run, of.get(TRIGGER, ""), int(of[REVISION]) if REVISION in of else None, of.get(ASKER))
        for run, of in tags.items()
    )


async def _submitter(connection: AsyncConnection, loop: str, line: str) -> str | None:
    is_version = decisions.c.subject.startswith(f"{line}@", autoescape=True)
    of = (decisions.c.loop == loop, decisions.c.type == VersionRegistered.type_name(), is_version)
    query = sql.select(decisions.c.wire).where(*of).order_by(decisions.c.sequence).limit(1)
    if (wire := await connection.scalar(query)) is None:
        return None
    first = VersionRegistered.model_validate_json(wire)
    is_submitted = first.data.model.reason == "submitted" and first.actor != REGISTRY_ACTOR
    return first.actor if is_submitted else None
