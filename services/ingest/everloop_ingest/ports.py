"""What ingest needs beside its HTTP API: the reading of sources, and the sealing of personal values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from everloop_ingest.domain.open_letters import OpenLetter
from everloop_ingest.domain.sources.mapping import SourceLimits
from everloop_ingest.domain.sources.status import SourceStatus
from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event
from everloop_shared.clock import Clock
from everloop_shared.messaging.routes import Publisher


class Seals(Protocol):
    """Seals the personal values of what leaves ingest."""

    async def seal(self, loop: str, outgoing: Sequence[Event | OpenLetter]) -> list[Event]:
        """What may be published, in the same order; raises Unavailable while the keys are away."""


class Sources(Protocol):
    """Reads the sources of the known loops."""

    def loops_changed(self) -> None:
        """A loop has a new state. Does not block."""

    def statuses(self, loop: str) -> Sequence[SourceStatus]:
        """How each source of a loop fares, in the order of its spec."""

    def problems(self) -> Sequence[str]:
        """What people should know, a sentence for each source that is not read as it should be."""

    async def run(self) -> None:
        """Read until cancelled; a source that fails does not end it."""


class SourcesFactory(Protocol):
    """Makes the sources of a service, which publish what they read."""

    def __call__(
        self, loops: KnownLoops, seals: Seals, publisher: Publisher, limits: SourceLimits, clock: Clock
    ) -> Sources: ...
