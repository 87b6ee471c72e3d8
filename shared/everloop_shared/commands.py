"""The edge for commands, the same for every service and protocol: authenticate, handle, publish; the caller answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from everloop_schemas.envelope import Event
from everloop_shared.access.identity import EVERYBODY, current_identity
from everloop_shared.errors import Overloaded, Unavailable
from everloop_shared.messaging.routes import Publisher, UnitOfWork

E = TypeVar("E", bound=Event)
Metadata = Mapping[str, str]
"""Headers of an HTTP request, or metadata of a gRPC call; names in lower case."""


@dataclass(frozen=True)
class Actor:
    """Who gave a command: the subject, how it is known, and by which key or provider; and of which team they are."""

    name: str
    kind: str = "anonymous"
    source: str = ""
    team: str | None = None

    def as_fields(self) -> dict[str, str | None]:
        """The fields of an event that say who gave a command; how that is known only where somebody asks."""
        known = self.kind != "anonymous"
        return {
            "actor": self.name,
            "actor_kind": self.kind if known else None,
            "actor_source": self.source if known else None,
        }


ANONYMOUS = Actor("anonymous")
"""Everybody, while no service authenticates (EVERLOOP_AUTH=off)."""


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


def current_actor() -> Actor:
    """Whom the guard in front of the routes let pass; ANONYMOUS where it asks nobody."""
    identity = current_identity()
    if identity is EVERYBODY:
        return ANONYMOUS
    return Actor(identity.subject, identity.kind, identity.source, identity.team)


async def identified(metadata: Metadata) -> Actor:
    """The current actor: who sends the metadata was found out before the route was reached."""
    return current_actor()


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
    authenticate: Authenticate = identified

    async def accept(self, metadata: Metadata) -> Command:
        """Authenticate; to be called before the command is read or checked. Raises as `Authenticate`."""
        return Command(await self.authenticate(metadata), self.execute)

    def accept_at_once(self) -> Actor | None:
        """The actor of a command that nothing has to be awaited for; None where it takes `accept`.

        That is so where the guard has authenticated and handlers make their events durable themselves.
        """
        return current_actor() if self.authenticate is identified and self.execute is stored_by_handler else None


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
