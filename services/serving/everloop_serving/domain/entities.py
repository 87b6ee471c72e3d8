"""The window states of entities, so that a REST prediction computes the features that the stream would."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from everloop_features import State

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
    """The states of the `limit` entities heard of last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._views: OrderedDict[tuple[str, str], EntityView] = OrderedDict()

    def __len__(self) -> int:
        return len(self._views)

    def get(self, loop: str, entity: str) -> EntityView | None:
        """The latest view of an entity, None where it is unknown."""
        return self._views.get((loop, entity))

    def told(self, loop: str, entity: str, state: State, applied: int, now: datetime, revision: int = 0) -> None:
        """The feature service's word: it replaces ours unless ours has already counted more observations."""
        ours = self._views.get((loop, entity))
        waiting = ours is not None and ours.ahead_since is not None and now - ours.ahead_since < PATIENCE
        if ours is not None and applied < ours.applied and waiting:
            return
        self._put((loop, entity), EntityView(state, applied, revision=revision))

    def moved(self, loop: str, entity: str, state: State, now: datetime) -> None:
        """Our own REST prediction moved the entity on; the feature service will say so too, a little later."""
        before = self._views.get((loop, entity)) or EntityView({}, 0)
        self._put((loop, entity), EntityView(state, before.applied + 1, before.ahead_since or now, before.revision))

    def forget(self, loop: str, life: int) -> None:
        """A life of the loop has ended: another began with revision `life`, or none (0)."""
        for key in [key for key, view in self._views.items() if key[0] == loop and not 0 < life <= view.revision]:
            del self._views[key]

    def _put(self, key: tuple[str, str], view: EntityView) -> None:
        self._views[key] = view
        self._views.move_to_end(key)
        while len(self._views) > self._limit:
            self._views.popitem(last=False)
