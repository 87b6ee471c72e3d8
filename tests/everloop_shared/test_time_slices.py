"""A batch of records lets requests in between."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

from tests.builders.events import rest_observation

from everloop_schemas.envelope import Event
from everloop_schemas.serving import ObservationReceived
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position, Route

COUNT = 50


async def test_requests_are_handled_between_the_records_of_a_batch() -> None:
    broker, handled = MemoryBroker(), list[Event]()
    for n in range(COUNT):
        event = rest_observation(f"o{n}")
        await broker.append(event.topic.name, event.key(), event.encode())
    turns: list[int] = []

    async def on_observation(event: ObservationReceived, at: Position) -> list[Event]:
        time.sleep(0.001)  # work, not a wait
        handled.append(event)
        return []

    async def take_turns() -> None:
        while True:
            turns.append(len(handled))
            await asyncio.sleep(0)

    consumer = broker.engine("serving").consumer([Route(ObservationReceived.topic, on_observation)])
    other = asyncio.create_task(take_turns())
    await consumer.start()
    async with asyncio.timeout(10):
        while len(handled) < COUNT:
            await asyncio.sleep(0)
    other.cancel()
    await consumer.stop()

    longest = max(later - earlier for earlier, later in pairwise(turns))
    assert longest < COUNT / 2
