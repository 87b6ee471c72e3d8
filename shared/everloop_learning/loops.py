"""The loops that a service knows: the latest state of each, and which records belong to a deleted one."""

from __future__ import annotations

from typing import NamedTuple

from everloop_learning.errors import LoopNotFound, LoopNotKnownYet
from everloop_schemas.envelope import Event
from everloop_schemas.registry import LoopState


class DeletedLoop(NamedTuple):
    """What is remembered of a deleted loop: its last decision and its last revision."""

    sequence: int
    revision: int


class KnownLoops:
    """The latest state of each loop that this process knows, folded from `registry.loop_state.v1`."""

    def __init__(self) -> None:
        self._states: dict[str, LoopState] = {}
        self._deleted: dict[str, DeletedLoop] = {}

    def apply(self, state: LoopState) -> bool:
        """Store a state; False when a later one is known already."""
        known, deleted = self._states.get(state.loop), self._deleted.get(state.loop)
        before = known.data.sequence if known else deleted.sequence if deleted else -1
        if before >= state.data.sequence:
            return False
        if state.data.deleted:
            self._states.pop(state.loop, None)
            self._deleted[state.loop] = DeletedLoop(state.data.sequence, state.revision)
        else:
            self._deleted.pop(state.loop, None)
            self._states[state.loop] = state
        return True

    def get(self, loop: str) -> LoopState | None:
        """The latest state of a loop, None for one that was never applied, or was deleted."""
        return self._states.get(loop)

    def require(self, loop: str) -> LoopState:
        """The latest state of a loop that a request names; raises LoopNotFound."""
        state = self._states.get(loop)
        if state is None:
            raise LoopNotFound(loop, deleted=loop in self._deleted)
        return state

    def require_arrived(self, loop: str) -> LoopState:
        """The latest state of a loop that a record belongs to; raises LoopNotKnownYet."""
        state = self._states.get(loop)
        if state is None:
            raise LoopNotKnownYet(loop)
        return state

    def all(self) -> list[LoopState]:
        """Every known loop, by name."""
        return [self._states[name] for name in sorted(self._states)]

    def is_deleted(self, loop: str) -> bool:
        """Whether the loop existed once and was deleted."""
        return loop in self._deleted

    def is_past(self, event: Event) -> bool:
        """Whether an event belongs to a deleted loop or to an earlier lifetime; revision 0 belongs to any lifetime."""
        state = self._states.get(event.loop)
        if state is not None:
            return 0 < event.revision < state.data.life
        deleted = self._deleted.get(event.loop)
        return deleted is not None and event.revision <= deleted.revision

    def is_ahead(self, event: Event) -> bool:
        """Whether an event names a later revision of a known loop, or of a deleted one, than has arrived here."""
        known = self._states.get(event.loop) or self._deleted.get(event.loop)
        return known is not None and event.revision > known.revision
