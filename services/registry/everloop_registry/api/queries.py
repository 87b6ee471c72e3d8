"""The registry's queries over HTTP: loops, versions, rollouts and history, now or as of a moment."""

from __future__ import annotations

import json
from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from everloop_learning.errors import LoopNotFound
from everloop_registry.api.schemas import History, LoopList, LoopView, RolloutView, VersionList
from everloop_registry.api.views import current_view, rollout_view, state_view, versions_view
from everloop_registry.domain.decision_log import fold_decisions
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.precondition import tag_of
from everloop_registry.ports import LoopReader
from everloop_schemas.registry import VersionRegistered
from everloop_shared.access.identity import current_identity
from everloop_shared.clock import read_time
from everloop_shared.errors import FieldError, InputRejected


def add_queries(routes: APIRouter, reader: LoopReader) -> None:
    """Add the routes of all queries."""
    _add_loops(routes, reader)
    _add_details(routes, reader)


async def find_loop(reader: LoopReader, loop: str, when: str | None = None) -> Loop:
    """The loop as it is now or was at `when`; raises LoopNotFound."""
    moment = _parse_moment(when)
    found = await reader.loop(loop) if moment is None else fold_decisions(loop, await reader.wires(loop, moment))
    if found is None or found.deleted:
        raise LoopNotFound(loop, deleted=found is not None, as_of=when)
    return found


def _add_loops(routes: APIRouter, reader: LoopReader) -> None:
    @routes.get("", response_model=LoopList)
    async def list_loops(deleted: bool = False) -> JSONResponse:
        """Every loop that the caller may see, in short; with `deleted`, the deleted ones."""
        short = ("loop", "team", "revision", "stage", "share", "pinned")
        asks = current_identity()
        found = [(loop, state_view(loop)) for loop in await reader.loops(deleted)]
        found = [(loop, view) for loop, view in found if asks.may("loops.read", view["loop"])]
        answer = [{**{k: v[k] for k in short}, "champion": loop.champion.version} for loop, v in found]
        return JSONResponse({"loops": answer})

    @routes.get("/{loop}", response_model=LoopView)
    async def get_loop(loop: str, as_of: str | None = None) -> JSONResponse:
        """Spec, revision, live versions and rollout."""
        found = await find_loop(reader, loop, as_of)
        if as_of:
            return JSONResponse(state_view(found))
        view = current_view(found, await reader.substitutes(loop))
        return JSONResponse(view, headers={"etag": tag_of(found.revision)})


def _add_details(routes: APIRouter, reader: LoopReader) -> None:
    @routes.get("/{loop}/versions", response_model=VersionList)
    async def list_versions(loop: str, as_of: str | None = None) -> JSONResponse:
        """Every registered version, oldest first."""
        now = await find_loop(reader, loop, as_of)
        wires = await reader.wires(loop, _parse_moment(as_of), VersionRegistered.type_name())
        return JSONResponse({"loop": loop, "versions": versions_view(now, wires)})

    @routes.get("/{loop}/rollout", response_model=RolloutView)
    async def get_rollout(loop: str, as_of: str | None = None) -> JSONResponse:
        """Where the rollout stands."""
        return JSONResponse(rollout_view(await find_loop(reader, loop, as_of)))

    @routes.get("/{loop}/history", response_model=History)
    async def get_history(loop: str, as_of: str | None = None) -> JSONResponse:
        """Every decision as it is on the topic, newest last."""
        wires = await reader.wires(loop, _parse_moment(as_of))
        if not wires:
            raise LoopNotFound(loop, as_of=as_of)
        return JSONResponse({"loop": loop, "decisions": [json.loads(wire) for wire in wires]})


def _parse_moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    if moment := read_time(text[:11] + text[11:].replace(" ", "+")):  # an unescaped plus arrives as a space
        return moment
    wrong = FieldError("as_of", "must be an RFC 3339 time with an offset, such as 2024-05-01T12:00:00Z")
    raise InputRejected(f"{wrong.field}: {wrong.error}", [wrong])
