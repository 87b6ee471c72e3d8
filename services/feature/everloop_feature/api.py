"""The HTTP door: which loops are known, and what is remembered of an entity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from everloop_feature.domain import Entity
from everloop_feature.errors import EntityNotFound
from everloop_feature.loops import Loops

FindEntity = Callable[[str], bytes | None]
"""The committed value of an entity by its key, loop/entity."""


def router(loops: Loops, find: FindEntity) -> APIRouter:
    """The routes of this service."""
    routes = APIRouter()

    @routes.get("/v1/loops/{loop}")
    async def loop_known(loop: str) -> dict[str, Any]:
        """The revision of the loop that features are computed by."""
        return {"loop": loop, "revision": loops.known.require(loop).revision}

    @routes.get("/v1/loops/{loop}/entities/{entity:path}")
    async def entity(loop: str, entity: str) -> dict[str, Any]:
        """The last vector of an entity and the state of its windows, as of the last batch."""
        revision = loops.known.require(loop).revision
        value = find(f"{loop}/{entity}")
        if value is None:
            raise EntityNotFound(f"no observation of entity {entity!r} of loop {loop!r} has come by")
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
