"""The registry's HTTP routes, closed until the registry has recovered."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, Depends

from everloop_registry.api.approvals import add_approvals
from everloop_registry.api.commands import add_commands
from everloop_registry.api.diffs import add_diffs
from everloop_registry.api.erasures import add_erasures
from everloop_registry.api.lineage import add_lineage
from everloop_registry.api.queries import add_queries
from everloop_registry.api.submissions import add_submissions
from everloop_registry.domain.team_use import TeamUse
from everloop_registry.errors import RecoveryInProgress
from everloop_registry.handlers import CommandHandlers, SubmissionHandlers
from everloop_registry.handlers.diffs import DiffHandlers
from everloop_registry.handlers.erasures import ErasureHandlers
from everloop_registry.ports import LoopReader, OriginReader
from everloop_registry.settings import RegistrySettings
from everloop_shared.access.teams import TeamQuotas
from everloop_shared.commands import CommandEdge
from everloop_shared.http.team_quotas import Used, quota_router
from everloop_shared.http.uploads import UploadFolder


def router(
    handlers: CommandHandlers,
    reader: LoopReader,
    origins: OriginReader,
    commands: CommandEdge,
    limits: RegistrySettings,
    submissions: SubmissionHandlers,
    erasures: ErasureHandlers,
    uploads: UploadFolder,
    recovered: Callable[[], bool],
    unit: AbstractAsyncContextManager[object],
) -> APIRouter:
    """The routes; they answer 503 until the registry has `recovered`. `unit` is for reading alone."""

    routes = APIRouter(prefix="/v1/loops", tags=["loops"], dependencies=[_required(recovered)])
    add_commands(routes, handlers, reader, commands, limits.max_spec_bytes)
    add_diffs(routes, DiffHandlers(handlers), reader, commands, unit, limits.max_spec_bytes)
    add_approvals(routes, handlers, reader, commands)
    add_erasures(routes, erasures, reader, commands)
    add_submissions(routes, submissions, commands, uploads, limits.max_artifact_bytes)
    add_queries(routes, reader)
    add_lineage(routes, reader, origins)
    whole = APIRouter()
    whole.include_router(routes)
    return whole


def team_router(reader: LoopReader, quotas: TeamQuotas, recovered: Callable[[], bool]) -> APIRouter:
    """What teams have of the quotas that the registry counts."""

    async def count() -> Used:
        return {team: use._asdict() for team, use in (await reader.team_uses()).items()}

    routes = APIRouter(dependencies=[_required(recovered)])
    routes.include_router(quota_router(count, TeamUse._fields, quotas))
    return routes


def _required(recovered: Callable[[], bool]) -> Any:
    async def require_recovery() -> None:
        if not recovered():
            raise RecoveryInProgress("the registry is reading its topic; try again in a moment")

    return Depends(require_recovery)
