"""The routes: three endpoints for entries, and the revision of a loop that `everloop apply` waits for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from everloop_ingest.api.requests import IngestApi
from everloop_ingest.api.responses import DOCUMENTATION
from everloop_ingest.api.schemas import SourceList
from everloop_ingest.handlers import EndpointName
from everloop_ingest.ports import Sources
from everloop_shared.http.schemas import Revision


def router(api: IngestApi, sources: Sources) -> APIRouter:
    """The routes under /v1/loops/{loop}."""
    routes = APIRouter(prefix="/v1/loops/{loop}", tags=["ingest"])

    def documented(endpoint: EndpointName) -> dict[str, Any]:
        return {**DOCUMENTATION[endpoint], "status_code": 202}

    @routes.post("/events", summary="Send observations", **documented("events"))
    async def send_events(loop: str, request: Request) -> Response:
        return await api.ingest(request, loop, "events")

    @routes.post("/labels", summary="Send labels of predictions", **documented("labels"))
    async def send_labels(loop: str, request: Request) -> Response:
        return await api.ingest(request, loop, "labels")

    @routes.post("/feedback", summary="Send feedback of users on predictions", **documented("feedback"))
    async def send_feedback(loop: str, request: Request) -> Response:
        return await api.ingest(request, loop, "feedback")

    @routes.get("", response_model=Revision, summary="The revision of the spec that entries are checked against")
    async def get_revision(loop: str) -> Response:
        return JSONResponse({"loop": loop, "revision": api.revision(loop)})

    @routes.get("/sources", response_model=SourceList, summary="How the loop's Kafka sources fare in this process")
    async def list_sources(loop: str) -> Response:
        api.revision(loop)
        return JSONResponse({"loop": loop, "sources": [status.as_dict() for status in sources.statuses(loop)]})

    return routes
