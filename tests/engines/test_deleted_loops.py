"""Records of deleted loops are dropped, and those of a new lifetime wait for its state: the same on every engine."""

from __future__ import annotations

import pytest
from tests.builders.loops import loop_spec, loop_state
from tests.builders.metrics import metric_value
from tests.engines.buses import BUSES, SERVICE, Bus, received, running, send_all, until

from everloop_learning.deleted_loops import skip_deleted_loops
from everloop_learning.loops import KnownLoops
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived
from everloop_schemas.registry import LoopState
from everloop_shared import metrics
from everloop_shared.messaging.routes import Position, Route

pytestmark = pytest.mark.parametrize("kind", BUSES, indirect=True)


def state(sequence: int, revision: int = 1, life: int = 1, deleted: bool = False) -> LoopState:
    """The state of loop `l` as the registry publishes it."""
    return loop_state(loop_spec(loop="l"), revision=revision, sequence=sequence, deleted=deleted, life=life)


def of(name: str, revision: int) -> Event:
    """An event of a revision."""
    return received(name).copy_with(revision=revision)


class LoopProcess:
    """A process that knows loops and handles the records of their present lifetime."""

    def __init__(self) -> None:
        self.loops, self.handled = KnownLoops(), list[str]()

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """A loop's state."""
        self.loops.apply(event)
        return []

    async def handle(self, event: EventReceived, at: Position) -> list[Event]:
        """An event."""
        self.handled.append(event.id)
        return []

    def routes(self) -> list[Route]:
        """Both behind the guard."""
        state = Route(LoopState.topic, self.on_loop_state, broadcast=True)
        return skip_deleted_loops(SERVICE, self.loops, [state, Route(EventReceived.topic, self.handle)])


def dropped() -> float:
    """How many records were dropped."""
    return metric_value(metrics.DROPPED.labels(SERVICE, EventReceived.topic.name))


async def test_records_of_deleted_loops_and_earlier_lifetimes_are_dropped_and_a_new_lifetime_waits_for_its_state(
    bus: Bus,
) -> None:
    process, before = LoopProcess(), dropped()
    await send_all(bus, [state(0), of("lived", 1)])
    async with running(bus.consumer(process.routes())):
        await until(lambda: process.handled == ["lived"])

        await send_all(bus, [state(1, deleted=True)])
        await until(lambda: process.loops.is_deleted("l"))
        await send_all(bus, [of(f"late{n}", 1) for n in range(50)])
        await until(lambda: dropped() - before == 50)
        await send_all(bus, [of("new", 2), of("old", 1), received("nameless")])
        await send_all(bus, [state(2, revision=2, life=2)])
        await until(lambda: process.handled == ["lived", "new", "nameless"])

    assert dropped() - before == 51
    assert await bus.sent(DEAD_LETTERS[SERVICE].topic) == []


async def test_a_process_that_starts_later_knows_which_loops_were_deleted(bus: Bus) -> None:
    await send_all(bus, [state(0), of("lived", 1), state(1, deleted=True), of("late", 1)])
    await send_all(bus, [state(2, revision=2, life=2), of("new", 2)])
    process = LoopProcess()

    async with running(bus.consumer(process.routes())):
        await until(lambda: process.handled == ["new"])

    assert [s.data.life for s in process.loops.all()] == [2]
