"""Adds up what teams have, from the rows of their loops."""

from __future__ import annotations

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from everloop_registry.domain.team_use import TeamUse
from everloop_registry.tables import loops


async def read_team_uses(connection: AsyncConnection, *which: sql.ColumnElement[bool]) -> dict[str, TeamUse]:
    """What each team of these rows has, by its name; deleted loops count for nobody."""
    added = (loops.c.team, sql.func.count(), sql.func.sum(loops.c.feature_cost))
    query = sql.select(*added).where(loops.c.team != "", ~loops.c.deleted, *which).group_by(loops.c.team)
    return {str(team): TeamUse(int(n), float(cost)) for team, n, cost in await connection.execute(query)}
