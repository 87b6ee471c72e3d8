"""Reads the specs that were applied to a loop, from the SQL tables, on any connection."""

from __future__ import annotations

from functools import lru_cache

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_registry.tables import decisions
from everloop_schemas.registry import LoopApplied


async def find_applied(connection: AsyncConnection, loop: str) -> list[LoopApplied]:
    """The decision with the spec of every revision, oldest first."""
    of = (decisions.c.loop == loop, decisions.c.type == LoopApplied.type_name())
    wires = await connection.scalars(sql.select(decisions.c.wire).where(*of).order_by(decisions.c.sequence))
    return [_applied(wire) for wire in wires]


@lru_cache(maxsize=100)
def _applied(wire: bytes) -> LoopApplied:
    return LoopApplied.model_validate_json(wire)
