"""Groups of topics whose handlers share one keyed state, and what builds their consumers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from everloop_schemas.envelope import Event
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import Consumer, Engine, Position, Route

Sweep = Callable[[Position], Awaitable[Sequence[Event]]]
"""Lets entries expire; the position has the partition, and the time (`timestamp`, in ms) up to which they expire."""
OnRestored = Callable[[], None]
"""Rebuilds what was derived from the state, after it was restored or its partitions changed."""


@dataclass(frozen=True)
class KeyedGroup:
    """Topics with the same keys and partitions, whose handlers share one state.

    `sweep` is called regularly for each partition, in a unit of work of its own. Its time is the earliest to which one
    of the group's topics has been read, so that nothing expires while its counterpart is still unread; a topic that is
    read to its end counts as read up to now.

    `stored_only` are topics whose records cause no event where no record of another topic has come before: while there
    are none of the others, they may wait for more of their kind.
    """

    store: KeyedStore
    routes: Sequence[Route]
    sweep: Sweep | None = None
    on_restored: OnRestored | None = None
    stored_only: frozenset[str] = frozenset()


class KeyedFactory(Protocol):
    """Makes the consumers of a service's groups; `engine` publishes what they cause, and is started before them."""

    def __call__(self, service: str, groups: Sequence[KeyedGroup], engine: Engine) -> Sequence[Consumer]: ...
