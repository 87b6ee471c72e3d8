"""Follows the states of loops, and has what is stored of ended lifetimes deleted."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.handlers.entities import EntityHandlers
from everloop_feature.handlers.erasures import ErasureHandlers
from everloop_feature.handlers.joins import JoinHandlers
from everloop_schemas.envelope import Event
from everloop_schemas.registry import LoopState
from everloop_shared.messaging.routes import Position


@dataclass
class LoopHandlers:
    """Handles `registry.loop_state.v1`, which every process reads whole."""

    loops: ActiveLoops
    entities: EntityHandlers
    joins: JoinHandlers
    erasures: ErasureHandlers

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """A loop was applied, decided upon or deleted."""
        if self.loops.apply(event):
            self.entities.on_loop_ended(event.loop)
            self.joins.on_loop_ended(event.loop)
        await self.erasures.on_loop_state(event)
        return []
