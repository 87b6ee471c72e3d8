"""Reads the decisions about erasures of an entity from the SQL table of decisions."""

from __future__ import annotations

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_registry.tables import decisions
from everloop_schemas.erasure import ErasureConfirmed, ErasureDecided

KINDS: dict[str, type[ErasureDecided] | type[ErasureConfirmed]] = {
    cls.type_name(): cls for cls in (ErasureDecided, ErasureConfirmed)
}


async def read_erasures(connection: AsyncConnection, loop: str, entity: str) -> list[ErasureDecided | ErasureConfirmed]:
    """Those of one entity, by the index of subjects, oldest first."""
    of = (decisions.c.loop == loop, decisions.c.subject == entity, decisions.c.type.in_(tuple(KINDS)))
    query = sql.select(decisions.c.type, decisions.c.wire).where(*of).order_by(decisions.c.sequence)
    return [KINDS[row.type].model_validate_json(row.wire) for row in await connection.execute(query)]
