"""Records of deleted loops hold nobody up, and a new life waits for its word: the same on every engine."""

from __future__ import annotations

import pytest
from tests.engines.buses import BUSES, NOW, SERVICE, Bus, received, running, send_all, until

from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import KnownLoops, LiveVersion, LoopState, LoopStateData
from everloop_shared import metrics
from everloop_shared.messaging.lives import living
from everloop_shared.messaging.routes import Position, Route

pytestmark = pytest.mark.parametrize("kind", BUSES, indirect=True)


def state(sequence: int, revision: int = 1, life: int = 1, deleted: bool = False) -> LoopState:
    """Loop `l` as the registry tells it."""
    spec = LoopSpec.model_validate({"loop": "l", "task": "binary", "schema": {"x": {"type": "number"}}})
    champion = LiveVersion(version="0", since=NOW)
    data = LoopStateData(spec=spec, champion=champion, sequence=sequence, deleted=deleted, life=life)
    return LoopState(id=f"s{sequence}", time=NOW, subject="l", loop="l", revision=revision, data=data)


def of(name: str, revision: int) -> Event:
    """An event of a revision."""
    return received(name).model_copy(update={"revision": revision})


class Room:
    """A process that knows loops, and handles what is of their present life."""

    def __init__(self) -> None:
        self.loops, self.handled = KnownLoops(), list[str]()

    async def hear(self, event: LoopState, at: Position) -> list[Event]:
        """A loop's state."""
        self.loops.apply(event)
        return []

    async def handle(self, event: EventReceived, at: Position) -> list[Event]:
        """An event."""
        self.handled.append(event.id)
        return []

    def routes(self) -> list[Route]:
        """Both behind the guard."""
        heard = Route(LoopState.topic, self.hear, broadcast=True)
        return living(SERVICE, self.loops, [heard, Route(EventReceived.topic, self.handle)])


def dropped() -> float:
    """How many records were let go."""
    return float(metrics.DROPPED.labels(SERVICE, EventReceived.topic.name)._value.get())


async def test_a_deleted_loop_and_the_life_before_are_let_go_at_once_and_a_new_life_waits_for_its_word(
    bus: Bus,
) -> None:
    room, before = Room(), dropped()
    await send_all(bus, [state(0), of("lived", 1)])
    async with running(bus.engine(room.routes())):
        await until(lambda: room.handled == ["lived"])

        await send_all(bus, [state(1, deleted=True)])
        await until(lambda: room.loops.deleted("l"))
        await send_all(bus, [of(f"late{n}", 1) for n in range(50)])
        await until(lambda: dropped() - before == 50)
        await send_all(bus, [of("new", 2), of("old", 1), received("nameless")])
        await send_all(bus, [state(2, revision=2, life=2)])
        await until(lambda: room.handled == ["lived", "new", "nameless"])

    assert dropped() - before == 51
    assert await bus.sent(DEAD_LETTERS[SERVICE].topic) == []


async def test_a_process_that_starts_later_knows_what_is_gone(bus: Bus) -> None:
    await send_all(bus, [state(0), of("lived", 1), state(1, deleted=True), of("late", 1)])
    await send_all(bus, [state(2, revision=2, life=2), of("new", 2)])
    room = Room()

    async with running(bus.engine(room.routes())):
        await until(lambda: room.handled == ["new"])

    assert [s.data.life for s in room.loops.all()] == [2]
