"""The windows of entities, so that a REST prediction computes the same features as the stream."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from everloop_features import State
from everloop_schemas.serving import WindowsUsed
from everloop_shared.bounded import Bounded

MEMORY_PER_WIRE_BYTE = 5
"""The memory of a state relative to the bytes of its record: lists of numbers and times, as Python objects."""
MAX_TIME_AHEAD = timedelta(seconds=60)
"""How long a state may be ahead of what feature publishes, before the published state replaces it in any case."""
Base = Literal["memory", "new", "unread"]
"""Where the state of feature came from that ours began with: see `WindowsUsed.source`."""


class EntityView(NamedTuple):
    """A state after `applied` observations. `ahead_since`: since then it has REST observations that feature's has not.

    `revision` is that of the loop's spec when feature published it. It began with feature's state after `base_applied`
    observations, which came from `base`; on top of it are our REST observations, the last of them `previous`.
    In loops with personal fields the state is in the token `sealed`, and `state` is empty.
    """

    state: State
    applied: int
    ahead_since: datetime | None = None
    revision: int = 0
    base_applied: int = 0
    base: Base = "memory"
    previous: str | None = None
    sealed: str | None = None

    def windows_used(self) -> WindowsUsed:
        """The state as a prediction made from it names it."""
        return WindowsUsed(applied=self.base_applied, source=self.base, previous=self.previous)


class EntityStates:
    """The states of the `limit` entities that changed last, within `limit_bytes`.

    `complete` says that none was evicted, and that none was left out when the topic was read.
    """

    def __init__(self, limit: int, limit_bytes: int = 64_000_000) -> None:
        self._views = Bounded[tuple[str, str], EntityView](limit, limit_bytes)
        self.complete = True

    def __len__(self) -> int:
        return len(self._views)

    @property
    def bytes(self) -> int:
        """Their memory: `MEMORY_PER_WIRE_BYTE` times their bytes on the wire."""
        return self._views.bytes

    def get(self, loop: str, entity: str) -> EntityView | None:
        """The latest state of an entity; None where it is unknown."""
        return self._views.get((loop, entity))

    def knows(self, loop: str, entity: str) -> bool:
        """Whether the state of an entity is here, and began with what feature had of it."""
        view = self._views.get((loop, entity))
        return view is not None and view.base != "unread"

    def apply_published(
        self,
        loop: str,
        entity: str,
        state: State,
        applied: int,
        now: datetime,
        revision: int = 0,
        size: int = 0,
        sealed: str | None = None,
    ) -> None:
        """A state that feature published, in a record of `size` bytes.

        It replaces ours, unless ours has more observations and has not been ahead for long. One that began without
        feature's state is always replaced.
        """
        ours = self._views.get((loop, entity))
        if ours is not None and applied < ours.applied and ours.ahead_since is not None and ours.base != "unread":
            if now - ours.ahead_since < MAX_TIME_AHEAD:
                return
        view = EntityView(state, applied, None, revision, base_applied=applied, sealed=sealed)
        self._put((loop, entity), view, MEMORY_PER_WIRE_BYTE * size)

    def apply_own(
        self,
        loop: str,
        entity: str,
        state: State,
        now: datetime,
        size: int = 0,
        observations: int = 1,
        last: WindowsUsed | None = None,
        sealed: str | None = None,
    ) -> None:
        """The state after REST observations of `size` bytes, which feature will publish a little later.

        Until then the state counts as larger by these bytes. `last` names this state, as it will be used.
        """
        key = (loop, entity)
        last = last or WindowsUsed(applied=0, source="new")
        before = self._views.get(key) or EntityView({}, last.applied)
        view = EntityView(
            state,
            before.applied + observations,
            before.ahead_since or now,
            before.revision,
            last.applied,
            last.source if last.source in ("new", "unread") else "memory",
            last.previous,
            sealed,
        )
        self._put(key, view, self._views.size(key) + MEMORY_PER_WIRE_BYTE * size)

    def _put(self, key: tuple[str, str], view: EntityView, size: int) -> None:
        expected = len(self._views) + (key not in self._views)
        self._views.put(key, view, size)
        if len(self._views) < expected:
            self.complete = False

    def drop_entity(self, loop: str, entity: str) -> None:
        """Drop the state of an entity that was erased: without one it is new."""
        self._views.discard((loop, entity))

    def drop_loop(self, loop: str, life: int) -> None:
        """Drop the states of earlier lifetimes of the loop; the present one began with revision `life`, 0 for none."""
        for key in self._views:
            view = self._views.get(key)
            if key[0] == loop and view is not None and not 0 < life <= view.revision:
                self._views.discard(key)
