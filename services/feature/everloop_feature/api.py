"""The HTTP endpoints: the revision of a loop, and what is stored of an entity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from everloop_feature.domain.entity import Entity
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.errors import EntityNotFound

FindEntity = Callable[[str], bytes | None]
"""The committed value of an entity by its key, loop/entity."""


def router(loops: ActiveLoops, find: FindEntity) -> APIRouter:
    """The routes of this service."""
    routes = APIRouter()

    @routes.get("/v1/loops/{loop}")
    async def loop_revision(loop: str) -> dict[str, Any]:
        """The revision of the spec by which features are computed."""
        return {"loop": loop, "revision": loops.known.require(loop).revision}

    @routes.get("/v1/loops/{loop}/entities/{entity:path}")
    async def entity(loop: str, entity: str) -> dict[str, Any]:
        """The last vector of an entity and the state of its windows, as of the last batch."""
        revision = loops.known.require(loop).revision
        value = find(f"{loop}/{entity}")
        if value is None:
            raise EntityNotFound(f"no observation of entity {entity!r} of loop {loop!r} was received")
        found = Entity.load(value)
        return {
            "loop": loop,
            "entity": entity,
            "revision": revision,
            "applied": found.applied,
            "features": found.features,
            "state": found.state,
        }

    return routes
