"""What serving knows of the windows of entities: in memory, and read from feature for those that are not."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from everloop_features import State
from everloop_features.observation import Observation
from everloop_schemas.envelope import Fields
from everloop_schemas.serving import WindowsUsed
from everloop_serving.domain.entity_states import EntityStates
from everloop_serving.domain.new_predictions import EntityChange
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.errors import StateUnread
from everloop_serving.handlers.sealed_records import SealedRecords
from everloop_serving.ports import EntityReader, Metrics, ServedLoops
from everloop_shared.clock import Clock
from everloop_shared.personal.failures import describe

log = logging.getLogger(__name__)
STATE_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a window state of another shape can raise."""
ReadSource = Literal["feature", "new", "unread"]
"""How the read of a state ended: see `WindowsUsed.source`."""


@dataclass
class EntityWindows:
    """The states of entities. Requests that miss the same entity share one read; none waits longer than `within_s`.

    While the topic of states is read and all of it is in memory (`topic_is_read`), an entity that is not there is new.
    Otherwise it is read from feature. Without a reader it counts as unread.
    """

    loops: ServedLoops
    states: EntityStates
    reader: EntityReader | None
    sealed: SealedRecords
    metrics: Metrics
    clock: Clock
    topic_is_read: Callable[[], bool]
    within_s: float = 0.1
    _reads: dict[tuple[str, str], asyncio.Task[ReadSource]] = field(default_factory=dict)

    def missing(self, loop: ServedLoop, entities: Iterable[str]) -> list[str]:
        """The entities whose state is not in memory; none where the loop has no windows."""
        if self.reader is None or not loop.plan.has_windows:
            return []
        absent = [entity for entity in dict.fromkeys(entities) if not self.states.knows(loop.loop, entity)]
        return [] if absent and self.has_all() else absent

    def has_all(self) -> bool:
        """Whether an entity that is not in memory is new."""
        return self.states.complete and self.topic_is_read()

    async def read(
        self, loop: ServedLoop, entities: Iterable[str], within_s: float = math.inf
    ) -> Mapping[str, ReadSource]:
        """Read the states of entities into memory; never raises.

        A request with less time than a read may take passes it as `within_s`.
        """
        assert self.reader, "nothing is missing without a reader"
        reads = {entity: self._start(self.reader, loop, entity) for entity in entities}
        limit_s = None if within_s >= self.within_s else within_s  # a read ends in time by itself
        await asyncio.wait(reads.values(), timeout=limit_s)
        return {entity: read.result() if read.done() else "unread" for entity, read in reads.items()}

    def find(
        self, loop: ServedLoop, entity: str, change: EntityChange | None, read: ReadSource | None
    ) -> tuple[State, WindowsUsed | None]:
        """The state of an entity and what the record says of it: after the earlier rows of the same request, `change`.

        `read` says how the read of the state ended, where it was not in memory.
        """
        if not loop.plan.has_windows:
            return loop.plan.empty(), None
        if change is not None:
            return change.state, change.windows
        view = self.states.get(loop.loop, entity)
        state = None if view is None else self.sealed.state_of(loop, entity, view)
        if view is None or state is None:  # an entity that was erased is new
            is_new = view is not None or read == "new" or (read is None and self.has_all())
            used, state = WindowsUsed(applied=0, source="new" if is_new else "unread"), loop.plan.empty()
        elif read == "feature" and view.previous is None:
            used = WindowsUsed(applied=view.base_applied, source="feature")
        else:
            used = view.windows_used()
        self.metrics.count_windows(used.source)
        return state, used

    def compute(
        self,
        loop: ServedLoop,
        row: Observation,
        time: datetime,
        now: datetime,
        state: State,
        windows: WindowsUsed | None,
    ) -> tuple[State, Fields, WindowsUsed | None]:
        """The entity's next state, the features, and the state that they were computed from."""
        try:
            return *loop.plan.apply(state, row.fields, time, now), windows
        except STATE_ERRORS as e:  # another producer's state on the topic must not cost the entity its predictions
            log.warning(
                "the stored windows of an entity cannot be used; they start empty",
                extra={"loop": loop.loop, "reason": describe(e) if loop.is_personal else repr(e)},
            )
            unread = WindowsUsed(applied=0, source="unread")
            return *loop.plan.apply(loop.plan.empty(), row.fields, time, now), unread

    def _start(self, reader: EntityReader, loop: ServedLoop, entity: str) -> asyncio.Task[ReadSource]:
        key = loop.loop, entity
        if key not in self._reads:
            self._reads[key] = asyncio.create_task(self._read(reader, loop, entity))
            self._reads[key].add_done_callback(lambda _: self._reads.pop(key))
        return self._reads[key]

    async def _read(self, reader: EntityReader, loop: ServedLoop, entity: str) -> ReadSource:
        try:
            found = await reader.read(loop.loop, entity, self.within_s, sealed=loop.is_personal)
        except StateUnread as e:
            self.metrics.count_entity_read(e.reason)
            return "unread"
        now_served = self.loops.get(loop.loop)
        if now_served is None or now_served.life != loop.life:  # it was deleted meanwhile
            return "unread"
        if found is None:
            self.metrics.count_entity_read("new")
            return "new"
        self.metrics.count_entity_read("found")
        self.states.apply_published(
            loop.loop, entity, found.state, found.applied, self.clock(), found.revision, found.size, found.sealed
        )
        return "feature"
