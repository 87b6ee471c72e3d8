"""The HTTP endpoints: the revision of a loop, and what is stored of an entity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from everloop_feature.domain.entity import Entity
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.errors import EntityNotFound

FindEntity = Callable[[str], bytes | None]
"""The committed value of an entity by its key, loop/entity. Raises EntityElsewhere."""


def router(loops: ActiveLoops, find: FindEntity) -> APIRouter:
    """The routes of this service."""
    routes = APIRouter()

    @routes.get("/v1/loops/{loop}")
    async def loop_revision(loop: str) -> dict[str, Any]:
        """The revision of the spec by which features are computed."""
        return {"loop": loop, "revision": loops.known.require(loop).revision}

    @routes.get("/v1/loops/{loop}/entities/{entity:path}")
    async def entity(loop: str, entity: str) -> dict[str, Any]:
        """The last vector of an entity and the state of its windows, as of the last batch.

        Serving reads it for an entity that it does not know: 404 says that there is no state, 503 that it is not here.
        """
        state = loops.known.require(loop)
        revision, value = state.revision, find(f"{loop}/{entity}")
        found = Entity.load(value)
        if value is None or found.life != state.data.life:
            raise EntityNotFound(f"no observation of entity {entity!r} of loop {loop!r} was received")
        return {
            "loop": loop,
            "entity": entity,
            "revision": revision,
            "applied": found.applied,
            "features": found.features,
            "state": found.state,
        }

    return routes
