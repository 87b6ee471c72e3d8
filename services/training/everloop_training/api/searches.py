"""The HTTP endpoint of searches: a loop's searches with their trials, and the request for another."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from everloop_shared.commands import CommandEdge
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body
from everloop_shared.text import Readable
from everloop_training.api.data_set_response import describe
from everloop_training.api.schemas import Search, SearchList
from everloop_training.domain.known_search import KnownSearch
from everloop_training.handlers import SearchHandlers

COMMAND_BYTES = 10_000


class SearchBody(BaseModel):
    """Which model a person wants to be searched, and why; the same `key` again is the same search."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[int, Field(ge=0, le=9, description="its number in the loop's file, from 0")] = 0
    reason: Readable = Field("asked for by a person", min_length=1, max_length=500)
    key: Readable | None = Field(None, min_length=1, max_length=200)


def search_router(handlers: SearchHandlers, commands: CommandEdge) -> APIRouter:
    """`GET` and `POST /v1/loops/{loop}/searches`."""
    routes = APIRouter(prefix="/v1/loops/{loop}", tags=["searches"])

    @routes.get("/searches", response_model=SearchList, summary="The loop's last searches, oldest first")
    async def list_searches(
        loop: str,
        trials: Annotated[bool, Query(description="with their trials")] = False,
        search: Annotated[str | None, Query(description="only this one", max_length=100)] = None,
    ) -> JSONResponse:
        found = [one for one in handlers.searches_of(loop) if search in (None, one.requested.data.search)]
        return JSONResponse({"loop": loop, "searches": [_describe(one, trials) for one in found]})

    @routes.post(
        "/searches",
        status_code=202,
        summary="Search for better parameters of a model now",
        response_model=Search,
        openapi_extra=describe_body(SearchBody, required=False),
    )
    async def request_search(loop: str, request: Request) -> JSONResponse:
        command = await commands.accept(request.headers)
        body = await command_body(SearchBody, request, COMMAND_BYTES, required=False)
        [requested] = await command.run(
            lambda actor: handlers.request_search(loop, body.model, body.reason, body.key, actor=actor)
        )
        known = handlers.searches.find(loop, requested.data.search) or KnownSearch(requested, None, ())
        return JSONResponse(_describe(known, False), 202)

    return routes


def _describe(search: KnownSearch, with_trials: bool) -> dict[str, Any]:
    requested, data, finished = search.requested, search.requested.data, search.finished
    end = finished.data if finished else None
    best = end.model if end and end.state == "improved" else None
    results = [trial.model_dump(mode="json", exclude={"search"}) for trial in search.trials] if with_trials else None
    return {
        **data.model_dump(mode="json", exclude={"model", "data_set", "space"}),
        "model": data.model.model_dump(mode="json", exclude_defaults=True),
        "space": {name: one.model_dump(mode="json", exclude_none=True) for name, one in data.space.items()},
        "requested": requested.time.isoformat(),
        "actor": requested.actor,
        "causationid": requested.causationid,
        "data_set": describe((end and end.data_set) or data.data_set),
        "state": end.state if end else "running",
        "finished": finished.time.isoformat() if finished else None,
        "trials_done": max(len(search.trials), end.trials if end else 0),
        "best": end.best if end else None,
        "best_model": best.model_dump(mode="json", exclude_defaults=True) if best else None,
        "score": end.score if end else None,
        "base_score": end.base_score if end else None,
        "run": end.run if end else None,
        "proposed": [each.model_dump(mode="json") for each in end.features] if end else [],
        "seconds": end.seconds if end else None,
        "failure": end.reason if end else None,
        "results": results,
    }
