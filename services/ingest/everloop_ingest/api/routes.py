"""The routes: three endpoints for entries, one for a record of a source, and the revision of a loop."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from everloop_ingest.api.requests import IngestApi
from everloop_ingest.api.responses import DOCUMENTATION, RECORD_RESPONSES
from everloop_ingest.api.schemas import Accepted, SourceList, SourceRecord
from everloop_ingest.handlers import EndpointName
from everloop_ingest.ports import Sources
from everloop_schemas.ingest import EventReceived
from everloop_shared.http.openapi import describe_body
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

    @routes.post(
        "/sources/{source}/records",
        status_code=202,
        response_model=Accepted,
        responses=RECORD_RESPONSES,
        openapi_extra=describe_body(SourceRecord),
        summary="Send a record of a source again, as its mapping reads it now",
    )
    async def send_source_record(loop: str, source: str, request: Request) -> Response:
        events = await api.take_source_record(request, loop, source)
        ids = [event.id if isinstance(event, EventReceived) else event.subject for event in events]
        return JSONResponse({"accepted": len(ids), "ids": ids}, 202)

    return routes
