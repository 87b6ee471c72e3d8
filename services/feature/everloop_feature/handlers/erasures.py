"""Forgets entities: those that somebody asks to be forgotten, and those that were not seen for as long as is kept."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta

from everloop_feature.domain.erasure_events import Forgotten, build_erasure_events, build_receipt, what_is_removed
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.handlers.entity_table import EntityTable
from everloop_feature.handlers.unseen import UnseenEntities, UnseenEntity
from everloop_feature.ports import Metrics, PersonalKeys
from everloop_schemas.envelope import Event, utc_time
from everloop_schemas.erasure import EntityErased
from everloop_schemas.registry import LoopState
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.routes import Position

log = logging.getLogger(__name__)
CLOCK_ROOM = timedelta(seconds=60)
"""A key that was made within this time after the decision may be older than it, as clocks of services differ."""
PER_SWEEP = 100
"""Entities that one sweep of a partition forgets because of a loop's retention."""


@dataclass
class ErasureHandlers:
    """Destroys keys, and drops what is stored of their entities.

    A command that is handled again after a crash finds the key gone, drops the same and publishes the same receipt,
    which leaves once the key is gone. After a restore all commands are handled again: a key that was made after one is
    that of somebody who came back, and stays with what it seals. By retention it is the other way round: the key alone
    says that there is something to forget, so that it goes last, in the sweep after that of the receipt.
    """

    loops: ActiveLoops
    table: EntityTable
    keys: PersonalKeys
    unseen: UnseenEntities
    metrics: Metrics
    _without_windows: dict[int, list[UnseenEntity]] = field(default_factory=lambda: defaultdict(list), init=False)

    async def on_entity_erased(self, event: EntityErased, at: Position) -> list[Event]:
        """Forget an entity; the receipt says what is gone. Raises Unavailable while the keys cannot be reached."""
        key, loop = event.key().decode(), self.loops.require(event.loop, event.revision)
        if self.table.is_applied(key, at):
            return []
        later, forgotten = None, Forgotten.asked_for(event, loop)
        if loop.is_personal or self.keys.is_configured:  # an earlier revision may have had personal fields
            until = event.time + CLOCK_ROOM
            later = await asyncio.to_thread(self.keys.erase, event.loop, event.subject, until)
        self.metrics.count_forgotten(event.loop, "person")
        if later is not None and not self.table.has_other_than(key, at, later):
            return [build_receipt(forgotten, what_is_removed(loop, None))]
        return build_erasure_events(forgotten, what_is_removed(loop, self.table.erase(key, at, loop.life)))

    async def sweep(self, at: Position) -> list[Event]:
        """Forget entities that were not seen for as long as their loops keep them, some at a time."""
        if not at.timestamp:
            return []
        try:
            for gone in self._without_windows.pop(at.partition, ()):
                await asyncio.to_thread(self.keys.destroy_unused, gone.loop, gone.entity, gone.before)
            due = await self.unseen.take(at.partition, PER_SWEEP)
        except Unavailable as e:
            log.warning("unseen entities are not forgotten yet", extra={"reason": e.detail})
            return []
        return [event for one in due for event in self._forget_unseen(one, at)]

    async def on_loop_state(self, event: LoopState) -> None:
        """Destroy the keys of a loop that was deleted, of the lifetime that has ended."""
        if event.data.deleted and self.keys.is_configured:
            await asyncio.to_thread(self.keys.erase_loop, event.loop, event.time)

    def restored(self) -> None:
        """The partitions may be others, whose owners find their unseen entities again."""
        self._without_windows.clear()

    def _forget_unseen(self, one: UnseenEntity, at: Position) -> list[Event]:
        if (loop := self.loops.get(one.loop)) is None:
            return []
        removed = what_is_removed(loop, self.table.erase(f"{one.loop}/{one.entity}", at, loop.life))
        self._without_windows[at.partition].append(one)
        self.metrics.count_forgotten(one.loop, "retention")
        time = utc_time(at.timestamp / 1000)
        return build_erasure_events(Forgotten(loop, one.entity, "retention", one.key_id, time), removed)
