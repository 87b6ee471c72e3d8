"""The commands about silences."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.silences import Silence
from everloop_monitoring.errors import SilenceNotFound
from everloop_monitoring.ports import AlertStore
from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import AlertKind
from everloop_shared.clock import Clock
from everloop_shared.commands import Actor


@dataclass
class Silencing:
    """Adds and ends silences in the open unit of work; a silence leads to no event."""

    store: AlertStore
    loops: KnownLoops
    clock: Clock

    async def add(
        self,
        loop: str,
        lasts: timedelta,
        reason: str,
        kind: AlertKind | None,
        alert: str | None,
        *,
        actor: Actor,
    ) -> Silence:
        """Silence alerts of a loop. Raises LoopNotFound and TooManySilences."""
        self.loops.require(loop)
        silence = Silence(str(uuid4()), loop, self.clock() + lasts, reason, actor.name, kind, alert)
        await self.store.add_silence(silence)
        return silence

    async def end(self, loop: str, id: str, *, actor: Actor) -> list[Event]:
        """End a silence. Raises LoopNotFound and SilenceNotFound."""
        self.loops.require(loop)
        if not await self.store.end_silence(loop, id):
            raise SilenceNotFound(f"loop {loop!r} has no silence {id[:80]!r}; GET /v1/loops/{loop}/silences lists them")
        return []
