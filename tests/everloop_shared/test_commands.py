"""The edge for commands: who gives one is known before it is handled, and it returns once its events are durable."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import pytest

from everloop_schemas.envelope import ControlEvent, Event
from everloop_shared.clock import system_clock
from everloop_shared.commands import (
    ANONYMOUS,
    Actor,
    CommandEdge,
    Metadata,
    StoredNotPublished,
    in_transaction,
    publishing,
    stored_by_handler,
)
from everloop_shared.errors import ErrorKind, InputRejected, Unavailable


class NotAuthenticated(InputRejected):
    """The metadata has no valid key."""

    kind = ErrorKind.UNAUTHENTICATED


async def by_key(metadata: Metadata) -> Actor:
    """The actor that the header `key` names."""
    if "key" not in metadata:
        raise NotAuthenticated("send a key")
    return Actor(metadata["key"])


def event(actor: Actor) -> Event:
    """An event that names the actor."""
    return ControlEvent(
        id="1", source="/test", type="test", time=system_clock(), subject=actor.name, loop="l", data=None
    )


async def handle(actor: Actor) -> list[Event]:
    """A handler with one event."""
    return [event(actor)]


class UnitLog:
    """A unit of work that records what was done with it; as a publisher it may be unreachable."""

    def __init__(self, *, reachable: bool = True) -> None:
        self.reachable = reachable
        self.steps: list[str] = []

    async def __aenter__(self) -> UnitLog:
        self.steps.append("begin")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.steps.append("roll back" if error else "commit")

    async def record(self, events: Sequence[Event], offsets: dict[tuple[str, int], int]) -> None:
        """Part of the unit of work."""
        self.steps.append(f"record {len(events)}")

    async def relay(self, publisher: Any) -> None:
        """Part of the unit of work."""
        if not self.reachable:
            raise Unavailable("no broker")
        self.steps.append("publish")


def test_events_say_how_an_actor_is_known_where_that_is_asked() -> None:
    known = Actor("alice", "key", "evl_1").as_fields()
    nobody = ANONYMOUS.as_fields()

    assert known == {"actor": "alice", "actor_kind": "key", "actor_source": "evl_1"}
    assert nobody == {"actor": "anonymous", "actor_kind": None, "actor_source": None}


async def test_without_authentication_the_actor_is_anonymous() -> None:
    command = await CommandEdge(stored_by_handler).accept({})

    [made] = await command.run(handle)

    assert command.actor == ANONYMOUS
    assert made.subject == "anonymous"


async def test_the_actor_reaches_the_handler_and_nobody_else_does() -> None:
    edge = CommandEdge(stored_by_handler, by_key)

    [made] = await (await edge.accept({"key": "ann"})).run(handle)
    with pytest.raises(NotAuthenticated) as refused:
        await edge.accept({})

    assert made.subject == "ann"
    assert refused.value.http_status == 401


async def test_events_are_published_before_the_command_returns() -> None:
    published: list[Event] = []

    async def publish(events: Sequence[Event]) -> None:
        published.extend(events)

    async def nothing(actor: Actor) -> list[Event]:
        return []

    command = await CommandEdge(publishing(publish)).accept({})

    assert await command.run(handle) == published
    assert await command.run(nothing) == []
    assert len(published) == 1


async def test_with_a_database_state_and_events_are_one_transaction_and_published_after_it() -> None:
    unit = UnitLog()

    await (await CommandEdge(in_transaction(unit, unit)).accept({})).run(handle)  # type: ignore[arg-type]

    assert unit.steps == ["begin", "record 1", "commit", "publish"]


async def test_what_is_stored_but_not_published_is_unavailable_and_may_be_retried() -> None:
    unit = UnitLog(reachable=False)
    command = await CommandEdge(in_transaction(unit, unit)).accept({})  # type: ignore[arg-type]

    with pytest.raises(StoredNotPublished, match="retrying is safe") as stored:
        await command.run(handle)

    assert unit.steps == ["begin", "record 1", "commit"]
    assert (stored.value.http_status, stored.value.code) == (503, "stored_not_published")


async def test_a_handler_that_raises_stores_nothing() -> None:
    async def refuse(actor: Actor) -> list[Event]:
        raise InputRejected("no")

    unit = UnitLog()
    command = await CommandEdge(in_transaction(unit, unit)).accept({})  # type: ignore[arg-type]

    with pytest.raises(InputRejected):
        await command.run(refuse)

    assert unit.steps == ["begin", "roll back"]
