"""What applying a loop file would do, over HTTP."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from everloop_registry.api.loop_file import LOOP_FILE, read_checked_file
from everloop_registry.domain.spec_diff import LoopDiff
from everloop_registry.handlers.diffs import DiffHandlers
from everloop_registry.ports import LoopReader
from everloop_shared.commands import CommandEdge

_RESPONSES: dict[int | str, dict[str, Any]] = {
    409: {"description": "Applying the file would be refused: a limit of loops, or a quota of the loop's team."},
    422: {"description": "Applying the file would be refused; `errors` name each field and the fix."},
}


def add_diffs(
    routes: APIRouter,
    handlers: DiffHandlers,
    reader: LoopReader,
    commands: CommandEdge,
    unit: AbstractAsyncContextManager[object],
    max_spec_bytes: int,
) -> None:
    """Add the route. It reads in a unit of work, so that it sees what a command would, and writes nothing."""

    @routes.post("/{loop}/diff", response_model=LoopDiff, responses=_RESPONSES, openapi_extra=LOOP_FILE)
    async def diff_loop(loop: str, request: Request) -> JSONResponse:
        """What applying a loop file, YAML or JSON, would do; nothing is stored or published.

        It is refused as `PUT` would refuse it, by the same rules, for whoever asks.
        """
        command = await commands.accept(request.headers)
        spec = await read_checked_file(request, loop, max_spec_bytes, handlers.commands, reader)
        async with unit:
            found = await handlers.diff(spec, actor=command.actor)
        return JSONResponse(found.model_dump(mode="json"))
