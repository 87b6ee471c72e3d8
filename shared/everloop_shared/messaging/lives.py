"""Records of loops that were deleted are let go before any handler sees them; those of a life to come wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from everloop_schemas.envelope import Event
from everloop_schemas.registry import KnownLoops, LoopState
from everloop_shared import metrics
from everloop_shared.errors import NotYet
from everloop_shared.messaging.routes import Handler, Position, Route

SAYS_SO = ("ingest", "registry")
"""Of what these publish, a later revision of a living loop is not waited for: who has to know it waits by itself."""


def living(service: str, loops: KnownLoops, routes: Sequence[Route]) -> list[Route]:
    """The routes, each with a guard before its handler; those of `loop_state` itself are left as they are.

    A record of a deleted loop, or of a life before the present one, is counted and dropped: it stays on the log. One
    of a revision that this process has not heard of waits for it (NotYet), so that no life takes what is another's.
    """
    return [r if r.topic == LoopState.topic else replace(r, handle=_guarded(service, loops, r)) for r in routes]


def _guarded(service: str, loops: KnownLoops, route: Route) -> Handler:
    handle, dropped = route.handle, metrics.DROPPED.labels(service, route.topic.name)
    trusting = route.topic.owner in SAYS_SO

    async def guarded(event: Event, at: Position) -> Iterable[Event]:
        if loops.past(event):
            dropped.inc()
            return ()
        if loops.ahead(event) and not (trusting and loops.get(event.loop)):
            raise NotYet(f"loop {event.loop} at revision {event.revision} is not known here yet")
        return await handle(event, at)

    return guarded
