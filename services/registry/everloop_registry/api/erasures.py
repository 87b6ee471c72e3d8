"""Forgetting a person, over HTTP: the command, and how far it is."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from everloop_registry.domain.erasures import Erasure, erasures_of
from everloop_registry.errors import ErasureRefused
from everloop_registry.handlers.erasures import ErasureHandlers
from everloop_registry.ports import LoopReader
from everloop_schemas.erasure import AboutModels, Removed
from everloop_schemas.names import ID_RULE, is_id, is_version_name
from everloop_shared.commands import CommandEdge
from everloop_shared.errors import FieldError
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body
from everloop_shared.text import Readable

MAX_BYTES = 50_000
MAX_VERSIONS = 200
"""Versions that a decision names, at most; there may be more, which `everloop subject` lists."""


class ErasureBody(BaseModel):
    """Why an entity is erased, what becomes of versions that learned from it, and which these are."""

    model_config = ConfigDict(extra="forbid")

    reason: Readable = Field(min_length=1, max_length=1000)
    models: AboutModels
    versions: list[Readable] = Field(default_factory=list, max_length=MAX_VERSIONS)


class ErasureView(BaseModel):
    """One erasure. `removed` is what feature had of the entity, once it is done."""

    decision: int | None = Field(
        description="the number of the decision; none where the spec's retention was the cause"
    )
    decided: str | None
    actor: str | None
    reason: str
    models: AboutModels | None
    versions: list[str]
    cause: Literal["person", "retention"]
    state: Literal["pending", "erased"]
    erased: str | None
    removed: Removed | None


class ErasureList(BaseModel):
    """The erasures of an entity, oldest first."""

    loop: str
    entity: str
    erasures: list[ErasureView]


def add_erasures(routes: APIRouter, handlers: ErasureHandlers, reader: LoopReader, commands: CommandEdge) -> None:
    """Add the routes."""

    @routes.post(
        "/{loop}/entities/{entity:path}/erase",
        status_code=202,
        response_model=ErasureList,
        responses={409: {"description": "The loop has no personal fields: a run would learn the same again."}},
        openapi_extra=describe_body(ErasureBody, {"reason": "asked for by letter of 3 May", "models": "keep"}),
    )
    async def erase_entity(loop: str, entity: str, request: Request) -> JSONResponse:
        """Have all that is known of an entity erased; the same again while that is under way."""
        command = await commands.accept(request.headers)
        body = await command_body(ErasureBody, request, MAX_BYTES)
        _check(entity, body.versions)
        await command.run(
            lambda actor: handlers.erase(loop, entity, body.reason, body.models, tuple(body.versions), actor=actor)
        )
        return JSONResponse(await _view(reader, loop, entity), 202)

    @routes.get("/{loop}/entities/{entity:path}/erasures", response_model=ErasureList)
    async def list_erasures(loop: str, entity: str) -> JSONResponse:
        """The erasures of an entity, whether they are done, and what was removed."""
        _check(entity)
        return JSONResponse(await _view(reader, loop, entity))


async def _view(reader: LoopReader, loop: str, entity: str) -> dict[str, Any]:
    found = erasures_of(await reader.erasures(loop, entity))
    return {"loop": loop, "entity": entity, "erasures": [_describe(one) for one in found]}


def _describe(erasure: Erasure) -> dict[str, Any]:
    decided, confirmed = erasure.decided, erasure.confirmed
    return {
        "decision": decided.sequence if decided else None,
        "decided": decided.time.isoformat() if decided else None,
        "actor": (decided.actor or "anonymous") if decided else None,
        "reason": decided.data.reason if decided else "the loop's retention.personal has passed",
        "models": decided.data.models if decided else None,
        "versions": list(decided.data.versions) if decided else [],
        "cause": "person" if decided else "retention",
        "state": "erased" if confirmed else "pending",
        "erased": confirmed.time.isoformat() if confirmed else None,
        "removed": confirmed.data.removed.model_dump() if confirmed else None,
    }


def _check(entity: str, versions: list[str] | None = None) -> None:
    wrong = [] if is_id(entity) else [FieldError("entity", f"must be {ID_RULE}")]
    wrong += [
        FieldError(f"versions.{i}", "must be the name of a version, such as b-0@400")
        for i, version in enumerate(versions or ())
        if not is_version_name(version)
    ]
    if wrong:
        raise ErasureRefused("; ".join(f"{e.field}: {e.error}" for e in wrong), wrong)
