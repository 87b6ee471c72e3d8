"""The loops this service knows, each with its compiled features."""

from __future__ import annotations

from collections.abc import Callable

from everloop_features import FeaturePlan, compile_features
from everloop_learning.errors import LoopNotKnownYet
from everloop_learning.loops import KnownLoops
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopState

EARLIER = 5
"""Revisions remembered before the latest: records checked under them by a door may still be on their way."""


def loop_of(key: str) -> str:
    """The loop of a key, loop/entity or loop/prediction_id."""
    return key.partition("/")[0]


class Loops:
    """Specs and plans by loop, always those of the latest revision heard of."""

    def __init__(self) -> None:
        self.known = KnownLoops()
        self._plans: dict[str, tuple[int, FeaturePlan]] = {}
        self._earlier: dict[str, dict[int, LoopSpec]] = {}
        self.ended: list[Callable[[str], None]] = []
        """Told of each loop whose life has ended, whether another began or not."""

    def apply(self, state: LoopState) -> None:
        """Take in a loop's state. The plan is compiled anew only where the revision changed."""
        before, life = self.known.get(state.loop), self.life(state.loop)
        if not self.known.apply(state):
            return
        if life and life != self.life(state.loop):
            self._earlier.pop(state.loop, None)
            before = None
            for tell in self.ended:
                tell(state.loop)
        if state.data.deleted:
            self._plans.pop(state.loop, None)
            return
        if before is not None and before.revision < state.revision:
            self._remember(before)
        known = self._plans.get(state.loop)
        if known is None or known[0] != state.revision:
            self._plans[state.loop] = (state.revision, compile_features(state.data.spec))

    def _remember(self, before: LoopState) -> None:
        earlier = self._earlier.setdefault(before.loop, {})
        earlier[before.revision] = before.data.spec
        while len(earlier) > EARLIER:
            del earlier[next(iter(earlier))]

    def earlier(self, loop: str, revision: int) -> LoopSpec | None:
        """The spec of an earlier revision, None where it is not remembered: those before the start never are."""
        return self._earlier.get(loop, {}).get(revision)

    def revision(self, loop: str) -> int | None:
        """The revision known of a loop."""
        return self._plans[loop][0] if loop in self._plans else None

    def life(self, loop: str) -> int:
        """The revision with which the loop's present life began; 0 for a loop that is not there."""
        state = self.known.get(loop)
        return state.data.life if state else 0

    def lived(self, loop: str) -> bool:
        """Whether something of a life that has ended may be left of a loop."""
        return self.known.is_deleted(loop) or self.life(loop) > 1

    def spec(self, loop: str, revision: int = 0) -> LoopSpec:
        """The spec; raises LoopNotKnownYet for a loop, or a revision of it, that is still to come."""
        self.plan(loop, revision)
        state = self.known.get(loop)
        assert state is not None, "a plan has a state"
        return state.data.spec

    def plan(self, loop: str, revision: int = 0) -> FeaturePlan:
        """The plan; raises LoopNotKnownYet for a loop, or a revision of it, that is still to come."""
        known = self._plans.get(loop)
        if known is None or known[0] < revision:
            raise LoopNotKnownYet(loop, revision)
        return known[1]
