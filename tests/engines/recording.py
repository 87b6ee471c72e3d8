"""A handler that records what it handles, and what came of it."""

from __future__ import annotations

from tests.engines.buses import Bus, computed

from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_shared.messaging.routes import Consumer, Position, Route


class RecordingHandler:
    """Records what it handles and returns one output each; tests override `also`, which runs first."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.places: list[Position] = []
        self.inside = 0
        self.most_inside = 0

    async def __call__(self, event: EventReceived, at: Position) -> list[Event]:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await self.also(event)
        finally:
            self.inside -= 1
        self.seen.append(event.id)
        self.places.append(at)
        return [computed(event)]

    async def also(self, event: EventReceived) -> None:
        """For tests to override: runs before the record is noted."""


def consumer_of(bus: Bus, handler: RecordingHandler) -> Consumer:
    """A consumer with this handler on its one route."""
    return bus.consumer([Route(EventReceived.topic, handler)])


async def output_ids(bus: Bus) -> set[str]:
    """The ids of all published outputs."""
    return {record["id"] for record in await bus.sent(FeaturesComputed.topic)}
