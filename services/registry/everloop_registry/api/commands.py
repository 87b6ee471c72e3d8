"""The registry's commands over HTTP: apply, rollback, resume, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from everloop_registry.api.loop_file import LOOP_FILE, read_checked_file
from everloop_registry.api.queries import find_loop
from everloop_registry.api.schemas import Deleted, LoopView, RolledBack
from everloop_registry.api.views import state_view
from everloop_registry.domain.precondition import Precondition, read_tags, tag_of
from everloop_registry.handlers import CommandHandlers
from everloop_registry.ports import LoopReader
from everloop_schemas.registry import LoopApplied, ModelRolledBack
from everloop_shared.commands import CommandEdge
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body
from everloop_shared.text import Readable

MAX_COMMAND_BYTES = 10_000
Reason = Annotated[Readable, Query(min_length=1, max_length=1000, description="why, for those who read the history")]


class RollbackBody(BaseModel):
    """Roll the champion back, to the one before it or to a version by name."""

    model_config = ConfigDict(extra="forbid")

    reason: Readable = Field(min_length=1, max_length=1000)
    to: Readable | None = Field(None, min_length=1, max_length=256)


class ResumeBody(BaseModel):
    """Let gate and rollout act again."""

    model_config = ConfigDict(extra="forbid")

    reason: Readable = Field(min_length=1, max_length=1000)


_PRECONDITIONS: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in (
            ("If-Match", "apply only if the loop is at this ETag, which GET and PUT answer; * for any"),
            ("If-None-Match", "* applies only a loop that does not exist"),
        )
    ]
}
_STATE_CONFLICTS: dict[int | str, dict[str, Any]] = {
    409: {"description": "It makes no sense in the state that the loop is in."}
}
_APPLY_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "A new revision, or the same where the file has not changed."},
    201: {"model": LoopView, "description": "A new loop."},
    409: {"description": "There are as many loops as the limit allows."},
    412: {"description": "The loop is not at the revision that `If-Match` or `If-None-Match` asks for."},
    422: {"description": "The file is not valid; `errors` name each field and the fix."},
}


def add_commands(
    routes: APIRouter, handlers: CommandHandlers, reader: LoopReader, commands: CommandEdge, max_spec_bytes: int
) -> None:
    """Add the routes of all commands."""
    _add_apply(routes, handlers, reader, commands, max_spec_bytes)
    _add_rollback_and_resume(routes, handlers, reader, commands)
    _add_delete(routes, handlers, reader, commands)


def _add_apply(
    routes: APIRouter, handlers: CommandHandlers, reader: LoopReader, commands: CommandEdge, max_spec_bytes: int
) -> None:
    @routes.put(
        "/{loop}", response_model=LoopView, responses=_APPLY_RESPONSES, openapi_extra=LOOP_FILE | _PRECONDITIONS
    )
    async def apply_loop(loop: str, request: Request) -> JSONResponse:
        """Apply a loop file, YAML or JSON: 201 for a new loop, 200 for a new or an unchanged revision."""
        command = await commands.accept(request.headers)
        precondition = Precondition(
            read_tags("If-Match", request.headers.getlist("if-match")),
            read_tags("If-None-Match", request.headers.getlist("if-none-match")),
        )
        spec = await read_checked_file(request, loop, max_spec_bytes, handlers, reader)
        events = await command.run(lambda actor: handlers.apply(spec, precondition, actor=actor))
        state = await find_loop(reader, loop)
        new = any(isinstance(e, LoopApplied) and e.revision == state.life for e in events)
        return JSONResponse(state_view(state), 201 if new else 200, headers={"etag": tag_of(state.revision)})


def _add_rollback_and_resume(
    routes: APIRouter, handlers: CommandHandlers, reader: LoopReader, commands: CommandEdge
) -> None:
    @routes.post(
        "/{loop}/rollback",
        response_model=RolledBack,
        responses=_STATE_CONFLICTS,
        openapi_extra=describe_body(RollbackBody, {"reason": "complaints since noon"}),
    )
    async def roll_back(loop: str, request: Request) -> JSONResponse:
        """Roll the champion back and pin the loop to it until resume."""
        command = await commands.accept(request.headers)
        body = await command_body(RollbackBody, request, MAX_COMMAND_BYTES)
        events = await command.run(lambda actor: handlers.rollback(loop, body.reason, body.to, actor=actor))
        done = next((e for e in events if isinstance(e, ModelRolledBack)), None)
        state = state_view(await find_loop(reader, loop))
        return JSONResponse({**state, "rolled_back": done and done.data.rolled_back})

    @routes.post(
        "/{loop}/resume",
        response_model=LoopView,
        openapi_extra=describe_body(ResumeBody, {"reason": "the cause is found"}),
    )
    async def resume_loop(loop: str, request: Request) -> JSONResponse:
        """Lift the pin of a rollback."""
        command = await commands.accept(request.headers)
        body = await command_body(ResumeBody, request, MAX_COMMAND_BYTES)
        await command.run(lambda actor: handlers.resume(loop, body.reason, actor=actor))
        return JSONResponse(state_view(await find_loop(reader, loop)))


def _add_delete(routes: APIRouter, handlers: CommandHandlers, reader: LoopReader, commands: CommandEdge) -> None:
    @routes.delete("/{loop}", response_model=Deleted)
    async def delete_loop(loop: str, request: Request, reason: Reason = "deleted by a person") -> JSONResponse:
        """Delete a loop; its log stays, and deleting it again changes nothing."""
        command = await commands.accept(request.headers)
        await command.run(lambda actor: handlers.delete(loop, reason, actor=actor))
        gone = await reader.loop(loop)
        return JSONResponse({"loop": loop, "deleted": gone.time.isoformat() if gone else None})
