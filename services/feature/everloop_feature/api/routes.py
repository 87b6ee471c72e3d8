"""The HTTP endpoints: the revision of a loop, and what is stored of an entity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from everloop_feature.api.schemas import EntityState
from everloop_feature.domain.entity import Entity
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.errors import EntityNotFound
from everloop_shared.http.schemas import Revision

FindEntity = Callable[[str], bytes | None]
"""The committed value of an entity by its key, loop/entity. Raises EntityElsewhere."""
OpenEntity = Callable[[str, str, Entity], Awaitable[Entity | None]]
"""The entity of a loop and a name with its personal values; None where they were erased."""
Sealed = Annotated[bool, Query(description="the state of a loop with personal fields as its sealed token")]


def router(loops: ActiveLoops, find: FindEntity, open_whole: OpenEntity) -> APIRouter:
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

    return routes
