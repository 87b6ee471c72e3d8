"""The sources of an installation without Kafka: none is read, and each says so."""

from __future__ import annotations

import asyncio

from everloop_ingest.domain.sources.mapping import SourceLimits
from everloop_ingest.domain.sources.status import SourceStatus
from everloop_ingest.ports import Seals
from everloop_learning.loops import KnownLoops
from everloop_schemas.registry import LoopState
from everloop_shared.clock import Clock
from everloop_shared.messaging.routes import Publisher


class NoSources:
    """Implements `ports.Sources` on the memory bus."""

    def __init__(
        self, loops: KnownLoops, seals: Seals, publisher: Publisher, limits: SourceLimits, clock: Clock
    ) -> None:
        self._loops = loops

    def loops_changed(self) -> None:
        """Nothing follows the loops."""

    def statuses(self, loop: str) -> list[SourceStatus]:
        """All are refused."""
        state = self._loops.get(loop)
        return _refuse_all(state) if state else []

    def problems(self) -> list[str]:
        """One for each source."""
        found = [status.problem() for state in self._loops.all() for status in _refuse_all(state)]
        return [problem for problem in found if problem]

    async def run(self) -> None:
        """Wait until cancelled."""
        await asyncio.Event().wait()


def _refuse_all(state: LoopState) -> list[SourceStatus]:
    why = "this installation has no Kafka; start it with everloop up, without --bus memory"
    return [
        SourceStatus(state.loop, source.name, source.topic, state="refused", detail=why)
        for source in state.data.spec.sources
    ]
