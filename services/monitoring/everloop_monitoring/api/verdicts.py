"""What people say about a candidate on the console; the registry decides."""

from __future__ import annotations

from typing import get_args

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from everloop_learning.loops import KnownLoops
from everloop_monitoring.errors import RegistryNotKnown
from everloop_monitoring.ports import Registry, Verdict
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body
from everloop_shared.text import Readable

MAX_BYTES = 10_000


class VerdictBody(BaseModel):
    """Why, and about which version: nobody speaks about another one than they looked at."""

    model_config = ConfigDict(extra="forbid")

    reason: Readable = Field(min_length=1, max_length=1000)
    version: Readable = Field(min_length=1, max_length=256)


class Said(BaseModel):
    """The registry has done it."""

    loop: str
    verdict: str
    version: str


def verdict_router(registry: Registry | None, loops: KnownLoops) -> APIRouter:
    """The routes; `registry` is None where monitoring was not given its address."""
    api = APIRouter(prefix="/v1/loops")
    for verdict in get_args(Verdict):
        _add(api, verdict, registry, loops)
    return api


def _add(api: APIRouter, verdict: Verdict, registry: Registry | None, loops: KnownLoops) -> None:
    @api.post(
        f"/{{loop}}/{verdict}",
        name=f"{verdict}_by_registry",
        response_model=Said,
        responses={409: {"description": "The registry does not do it, and says why; or its address is not known."}},
        openapi_extra=describe_body(VerdictBody, {"reason": "its errors are within the limits", "version": "tree-3@1"}),
    )
    async def say(loop: str, request: Request) -> JSONResponse:
        """Give it to the registry in the name of whoever asks; it answers as `everloop approve|reject|promote`."""
        body = await command_body(VerdictBody, request, MAX_BYTES)
        loops.require(loop)
        if registry is None:
            raise RegistryNotKnown(verdict, loop)
        await registry.say(verdict, loop, body.model_dump(), request.headers.get("authorization"))
        return JSONResponse({"loop": loop, "verdict": verdict, "version": body.version})
