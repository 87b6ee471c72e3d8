"""Finds the entities whose keys were not used for as long as their loops keep them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NamedTuple

from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.ports import PersonalKeys
from everloop_shared.clock import Clock, system_clock
from everloop_shared.personal.records import COMMENT_HOLDER

LOOK_EVERY = timedelta(minutes=10)
PER_LOOK = 2_000
"""Keys of a loop that one look finds, at most; the next look finds the next ones."""


class UnseenEntity(NamedTuple):
    """An entity, and the day before which its key was last used; `key_id` names the key."""

    loop: str
    entity: str
    key_id: str
    before: date


@dataclass
class UnseenEntities:
    """Looks every few minutes, by the days that the store of keys has; `partition_of` says whose an entity is.

    Keys of comments whose prediction never came belong to nobody: they are destroyed here.
    """

    loops: ActiveLoops
    keys: PersonalKeys
    partition_of: Callable[[str], int]
    clock: Clock = system_clock
    look_every: timedelta = LOOK_EVERY
    _next_look: float = field(default=0.0, init=False)
    _found: dict[int, dict[tuple[str, str], UnseenEntity]] = field(
        default_factory=lambda: defaultdict(dict), init=False
    )

    async def take(self, partition: int, most: int) -> list[UnseenEntity]:
        """The next entities of a partition to forget. Raises Unavailable while the keys cannot be reached."""
        now = self.clock().timestamp()
        if now >= self._next_look and self.keys.is_configured:
            self._next_look = now + self.look_every.total_seconds()
            await self._look()
        found = self._found[partition]
        return [found.pop(key) for key in list(found)[:most]]

    async def _look(self) -> None:
        today = self.clock().date()
        self._found.clear()
        for name, kept in self.loops.kept_for().items():
            before = today - kept
            for key in await asyncio.to_thread(self.keys.unused_since, name, before, PER_LOOK):
                if key.entity.startswith(COMMENT_HOLDER):
                    await asyncio.to_thread(self.keys.destroy_unused, name, key.entity, before)
                else:
                    one = UnseenEntity(name, key.entity, key.key_id, before)
                    self._found[self.partition_of(f"{name}/{key.entity}")][name, key.entity] = one
