"""The loops this service knows, each with its compiled features."""

from __future__ import annotations

from everloop_feature.errors import LoopNotKnownYet
from everloop_features import FeaturePlan, compile_features
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import KnownLoops, LoopState


class Loops:
    """Specs and plans by loop, always those of the latest revision heard of."""

    def __init__(self) -> None:
        self._known = KnownLoops()
        self._plans: dict[str, tuple[int, FeaturePlan]] = {}

    def apply(self, state: LoopState) -> None:
        """Take in a loop's state. The plan is compiled anew only where the revision changed."""
        if not self._known.apply(state):
            return
        known = self._plans.get(state.loop)
        if known is None or known[0] != state.revision:
            self._plans[state.loop] = (state.revision, compile_features(state.data.spec))

    def revision(self, loop: str) -> int | None:
        """The revision known of a loop."""
        return self._plans[loop][0] if loop in self._plans else None

    def spec(self, loop: str, revision: int = 0) -> LoopSpec:
        """The spec; raises LoopNotKnownYet for a loop, or a revision of it, that is still to come."""
        self.plan(loop, revision)
        state = self._known.get(loop)
        assert state is not None, "a plan has a state"
        return state.data.spec

    def plan(self, loop: str, revision: int = 0) -> FeaturePlan:
        """The plan; raises LoopNotKnownYet for a loop, or a revision of it, that is still to come."""
        known = self._plans.get(loop)
        if known is None or known[0] < revision:
            raise LoopNotKnownYet(f"loop {loop!r} at revision {revision} is not known here yet")
        return known[1]
