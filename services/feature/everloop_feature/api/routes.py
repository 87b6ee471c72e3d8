"""The HTTP endpoints: the revision of a loop, and what is stored of an entity."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, StreamingResponse

from everloop_feature.api.schemas import EntityState
from everloop_feature.domain.entity import Entity
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.domain.subject_records import OUTCOMES, SOURCES
from everloop_feature.errors import EntityNameRejected, EntityNotFound
from everloop_feature.handlers.subjects import SubjectExport
from everloop_schemas.names import ID_RULE, is_id
from everloop_shared.errors import FieldError
from everloop_shared.http.schemas import Revision

FindEntity = Callable[[str], bytes | None]
"""The committed value of an entity by its key, loop/entity. Raises EntityElsewhere."""
OpenEntity = Callable[[str, str, Entity], Awaitable[Entity | None]]
"""The entity of a loop and a name with its personal values; None where they were erased."""
Sealed = Annotated[bool, Query(description="the state of a loop with personal fields as its sealed token")]


NDJSON = "application/x-ndjson"
_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A line of JSON for each record, `progress` between them, and `end` as the last one.",
        "content": {NDJSON: {"schema": {"type": "string"}}},
    },
}


def router(loops: ActiveLoops, find: FindEntity, open_whole: OpenEntity, export: SubjectExport) -> APIRouter:
    """The routes of this service."""
    routes = APIRouter()

    @routes.get("/v1/loops/{loop}", response_model=Revision)
    async def get_revision(loop: str) -> JSONResponse:
        """The revision of the spec by which features are computed."""
        return JSONResponse({"loop": loop, "revision": loops.known.require(loop).revision})

    @routes.get("/v1/loops/{loop}/entities/{entity:path}", response_model=EntityState)
    async def get_entity(loop: str, entity: str, sealed: Sealed = False) -> JSONResponse:
        """The last vector of an entity and the state of its windows, as of the last batch.

        Serving reads it for an entity that it does not know: 404 says that there is no state, 503 that it is not here.
        It asks for the state `sealed`: of a loop with personal fields then as the token that is stored.
        """
        state = loops.known.require(loop)
        revision, value = state.revision, find(f"{loop}/{entity}")
        found = Entity.load(value)
        if value is None or found.life != state.data.life:
            raise EntityNotFound(f"no observation of entity {entity!r} of loop {loop!r} was received")
        answer = {"loop": loop, "entity": entity, "revision": revision, "applied": found.applied}
        if sealed:
            token = {"personal": found.sealed_state} if found.sealed_state else {}
            return JSONResponse({**answer, "features": found.features, "state": found.state, **token})
        opened = await open_whole(loop, entity, found)
        if opened is None:
            raise EntityNotFound(f"what was known of entity {entity!r} of loop {loop!r} was erased")
        return JSONResponse({**answer, "features": opened.features, "state": opened.state})

    _add_subject(routes, loops, export)
    return routes


def _add_subject(routes: APIRouter, loops: ActiveLoops, export: SubjectExport) -> None:
    @routes.get("/v1/loops/{loop}/subjects/{entity:path}", response_class=StreamingResponse, responses=_LINES)
    async def get_subject(
        loop: str,
        entity: str,
        only: Annotated[Literal["outcomes"] | None, Query(description="only what models may have learned")] = None,
    ) -> StreamingResponse:
        """All that the topics have about an entity, sealed values opened: what a person may ask for.

        The last line says whether that is all; a line of a record says in `personal` whether its sealed values could be
        opened, or were erased.
        """
        loops.known.require(loop)
        if not is_id(entity):
            wrong = FieldError("entity", f"must be {ID_RULE}")
            raise EntityNameRejected(f"{wrong.field}: {wrong.error}", [wrong])
        lines = export.lines(loop, entity, OUTCOMES if only else SOURCES)
        first = await anext(lines)  # what refuses it, before the answer begins
        return StreamingResponse(_chain(first, lines), media_type=NDJSON)


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for line in rest:
        yield line
