"""What people say about a candidate, over HTTP: approve, reject, promote."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from everloop_registry.api.queries import find_loop
from everloop_registry.api.schemas import LoopView
from everloop_registry.api.views import state_view
from everloop_registry.handlers import CommandHandlers
from everloop_registry.ports import LoopReader
from everloop_shared.commands import CommandEdge
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body
from everloop_shared.text import Readable

MAX_BYTES = 10_000
_DOES = {
    "approve": "Approve of the candidate that waits; once as many people have as the spec asks for, it takes its step.",
    "reject": "Roll the candidate back; the champion stays, and nothing is pinned.",
    "promote": "Make the candidate champion without the rest of its rollout, or a registered version where none runs.",
}


class VerdictBody(BaseModel):
    """Why, and about which version; without one, about the candidate."""

    model_config = ConfigDict(extra="forbid")

    reason: Readable = Field(min_length=1, max_length=1000)
    version: Readable | None = Field(None, min_length=1, max_length=256)


def add_approvals(routes: APIRouter, handlers: CommandHandlers, reader: LoopReader, commands: CommandEdge) -> None:
    """Add the routes."""
    for verb in _DOES:
        _add_verdict(routes, verb, handlers, reader, commands)


def _add_verdict(
    routes: APIRouter, verb: str, handlers: CommandHandlers, reader: LoopReader, commands: CommandEdge
) -> None:
    handle = {"approve": handlers.approve, "reject": handlers.reject, "promote": handlers.promote}[verb]

    @routes.post(
        f"/{{loop}}/{verb}",
        name=f"{verb}_candidate",
        description=_DOES[verb],
        response_model=LoopView,
        responses={409: {"description": "There is nothing to say that about, or it takes approvals first."}},
        openapi_extra=describe_body(VerdictBody, {"reason": "its errors are within the limits"}),
    )
    async def say(loop: str, request: Request) -> JSONResponse:
        command = await commands.accept(request.headers)
        body = await command_body(VerdictBody, request, MAX_BYTES)
        await command.run(lambda actor: handle(loop, body.reason, body.version, actor=actor))
        return JSONResponse(state_view(await find_loop(reader, loop)))
