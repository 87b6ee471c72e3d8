"""Drops records of deleted loops and of earlier lifetimes before a handler sees them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from everloop_learning.errors import LoopNotKnownYet
from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event
from everloop_schemas.registry import LoopState
from everloop_shared import metrics
from everloop_shared.messaging.routes import Handler, Position, Route

NOT_WAITED_FOR = ("ingest", "registry")
"""Owners of topics whose records may name a later revision of a known loop; handlers that need it wait themselves."""


def skip_deleted_loops(service: str, loops: KnownLoops, routes: Sequence[Route]) -> list[Route]:
    """The routes, each with a guard before its handler, except that of `registry.loop_state.v1` itself.

    A record of a deleted loop or of an earlier lifetime is counted and dropped; it stays on the log. A record of a
    revision that has not arrived is retried (LoopNotKnownYet), so that it is not handled within the wrong lifetime.
    """
    return [r if r.topic == LoopState.topic else replace(r, handle=_guarded(service, loops, r)) for r in routes]


def _guarded(service: str, loops: KnownLoops, route: Route) -> Handler:
    handle, dropped = route.handle, metrics.DROPPED.labels(service, route.topic.name)
    may_be_ahead = route.topic.owner in NOT_WAITED_FOR

    async def guarded(event: Event, at: Position) -> Iterable[Event]:
        if loops.is_past(event):
            dropped.inc()
            return ()
        if loops.is_ahead(event) and not (may_be_ahead and loops.get(event.loop)):
            raise LoopNotKnownYet(event.loop, event.revision)
        return await handle(event, at)

    return guarded
