"""The edge for commands, the same for every service and protocol: authenticate, handle, publish; the caller answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from everloop_schemas.envelope import Event
from everloop_shared.errors import Overloaded, Unavailable
from everloop_shared.messaging.routes import Publisher, UnitOfWork

E = TypeVar("E", bound=Event)
Metadata = Mapping[str, str]
"""Headers of an HTTP request, or metadata of a gRPC call; names in lower case."""


@dataclass(frozen=True)
class Actor:
    """Who gave a command; events carry the name."""

    name: str


ANONYMOUS = Actor("anonymous")
"""Everybody, while no service authenticates."""


class StoredNotPublished(Unavailable):
    """The events of a command are stored, but the broker is unreachable. They are published later, in order."""

    title = "Stored, not published yet"


class Authenticate(Protocol):
    """Finds out who gives a command."""

    async def __call__(self, metadata: Metadata) -> Actor:
        """The actor; raises a ServiceError of kind UNAUTHENTICATED or PERMISSION_DENIED."""


class Execute(Protocol):
    """Calls the handler of one command and returns its events once they are durable."""

    async def __call__(self, handle: Callable[[], Awaitable[Sequence[E]]]) -> Sequence[E]:
        """The events of the handler; raises what the handler raises, or Unavailable or Overloaded."""


async def anonymous(metadata: Metadata) -> Actor:
    """Accepts every command; its actor is unknown."""
    return ANONYMOUS


@dataclass(frozen=True)
class Command:
    """A command whose actor is known. Only `CommandEdge.accept` creates it, so that no handler runs without."""

    actor: Actor
    execute: Execute

    async def run(self, handle: Callable[[Actor], Awaitable[Sequence[E]]]) -> Sequence[E]:
        """Handle the command and return its events once they are durable."""
        return await self.execute(lambda: handle(self.actor))


@dataclass(frozen=True)
class CommandEdge:
    """What a route needs for a command: `command = await edge.accept(headers)`, then `await command.run(handler)`.

    A composition root chooses how events become durable: `publishing`, `in_transaction` or `stored_by_handler`.
    """

    execute: Execute
    authenticate: Authenticate = anonymous

    async def accept(self, metadata: Metadata) -> Command:
        """Authenticate; to be called before the command is read or checked. Raises as `Authenticate`."""
        return Command(await self.authenticate(metadata), self.execute)

    def accept_at_once(self) -> Actor | None:
        """The actor of a command that nothing has to be awaited for; None where it takes `accept`.

        That is so where nobody authenticates and handlers make their events durable themselves.
        """
        return ANONYMOUS if self.authenticate is anonymous and self.execute is stored_by_handler else None


def publishing(publish: Callable[[Sequence[Event]], Awaitable[None]]) -> Execute:
    """Publish the events and wait for the acknowledgement of the broker: for services without a database."""

    async def execute(handle: Callable[[], Awaitable[Sequence[E]]]) -> Sequence[E]:
        events = await handle()
        if events:
            await publish(events)
        return events

    return execute


def in_transaction(unit: UnitOfWork, publisher: Publisher) -> Execute:
    """Commit state and events in one unit of work, then publish the outbox; may raise StoredNotPublished."""

    async def execute(handle: Callable[[], Awaitable[Sequence[E]]]) -> Sequence[E]:
        async with unit:
            events = await handle()
            await unit.record(events, {})
        try:
            await unit.relay(publisher)
        except (Unavailable, Overloaded) as e:
            raise StoredNotPublished(
                "stored; it will be published when Kafka is reachable again; retrying is safe"
            ) from e
        return events

    return execute


async def stored_by_handler(handle: Callable[[], Awaitable[Sequence[E]]]) -> Sequence[E]:
    """The handler itself makes its events durable, as in serving's spool."""
    return await handle()
