"""The window states of entities, so that a REST prediction computes the features that the stream would."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from everloop_features import State
from everloop_shared.bounded import Bounded

AS_OBJECTS = 5
"""So many times the bytes of its record a window state takes: lists of numbers and times, as Python has them."""
PATIENCE = timedelta(seconds=60)
"""How long our own view may be ahead of the feature service before its word counts again whatever it says."""


@dataclass(frozen=True)
class EntityView:
    """A state after `applied` observations; `ahead_since` is when our own REST predictions moved it on.

    `revision` is that of the loop's spec when it was told.
    """

    state: State
    applied: int
    ahead_since: datetime | None = None
    revision: int = 0


class Entities:
    """The states of the `limit` entities heard of last, within `limit_bytes`."""

    def __init__(self, limit: int, limit_bytes: int = 64_000_000) -> None:
        self._views = Bounded[tuple[str, str], EntityView](limit, limit_bytes)

    def __len__(self) -> int:
        return len(self._views)

    @property
    def bytes(self) -> int:
        """What they take, in bytes: `AS_OBJECTS` times what they are on the wire."""
        return self._views.bytes

    def get(self, loop: str, entity: str) -> EntityView | None:
        """The latest view of an entity, None where it is unknown."""
        return self._views.get((loop, entity))

    def told(
        self, loop: str, entity: str, state: State, applied: int, now: datetime, revision: int = 0, size: int = 0
    ) -> None:
        """The feature service's word, a record of `size` bytes.

        It replaces ours unless ours has already counted more observations.
        """
        ours = self._views.get((loop, entity))
        waiting = ours is not None and ours.ahead_since is not None and now - ours.ahead_since < PATIENCE
        if ours is not None and applied < ours.applied and waiting:
            return
        self._views.put((loop, entity), EntityView(state, applied, revision=revision), AS_OBJECTS * size)

    def moved(self, loop: str, entity: str, state: State, now: datetime, size: int = 0) -> None:
        """Our own REST prediction, an observation of `size` bytes, moved the entity on.

        The feature service will say so too, a little later: until then the state counts as having grown by all of it.
        """
        key = (loop, entity)
        before = self._views.get(key) or EntityView({}, 0)
        view = EntityView(state, before.applied + 1, before.ahead_since or now, before.revision)
        self._views.put(key, view, self._views.size(key) + AS_OBJECTS * size)

    def forget(self, loop: str, life: int) -> None:
        """A life of the loop has ended: another began with revision `life`, or none (0)."""
        for key in self._views:
            view = self._views.get(key)
            if key[0] == loop and view is not None and not 0 < life <= view.revision:
                self._views.discard(key)
