"""The loops that feature computes for: the spec and the compiled features of each, at its latest revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import islice

from everloop_features import FeaturePlan, compile_features
from everloop_learning.errors import LoopNotKnownYet
from everloop_learning.loops import KnownLoops
from everloop_schemas.loop import LoopSpec
from everloop_schemas.quantities import parse_duration_s
from everloop_schemas.registry import LoopState

EARLIER_REVISIONS = 5
"""Specs kept of the revisions before the latest: records that were accepted under them may still be on their way."""


def loop_of(key: str) -> str:
    """The loop of a key, loop/entity or loop/prediction_id."""
    return key.partition("/")[0]


@dataclass(frozen=True)
class ActiveLoop:
    """A loop at its latest revision. `life` is the revision with which its present lifetime began.

    `earlier` has the specs of revisions before this one, none of which was published before the process started.
    """

    spec: LoopSpec
    plan: FeaturePlan
    revision: int
    life: int
    earlier: Mapping[int, LoopSpec]

    @cached_property
    def is_personal(self) -> bool:
        """Whether it has personal fields: then what is stored of its entities is sealed."""
        return bool(self.spec.personal_fields)

    @cached_property
    def label_within_s(self) -> float:
        """How long after an observation its label may come."""
        return self.spec.label.within_s

    @cached_property
    def label_within_ms(self) -> int:
        """The same in milliseconds."""
        return round(self.label_within_s * 1000)

    def is_earlier(self, revision: int) -> bool:
        """Whether a record carries a revision before the latest; revision 0 means that it carries none."""
        return 1 <= revision < self.revision


class ActiveLoops:
    """Every loop that was applied and not deleted, by a fold of `registry.loop_state.v1`."""

    def __init__(self) -> None:
        self.known = KnownLoops()
        self._active: dict[str, ActiveLoop] = {}

    def apply(self, state: LoopState) -> bool:
        """Apply a loop's state; True where it ends the lifetime known so far, whether another begins or not.

        Features are compiled again only where the revision changed.
        """
        before = self._active.get(state.loop)
        if not self.known.apply(state):
            return False
        ended = before is not None and (state.data.deleted or state.data.life != before.life)
        if state.data.deleted:
            self._active.pop(state.loop, None)
        elif before is None or ended:
            self._active[state.loop] = _activate(state, {})
        elif state.revision != before.revision:
            self._active[state.loop] = _activate(state, _latest({**before.earlier, before.revision: before.spec}))
        return ended

    def get(self, loop: str) -> ActiveLoop | None:
        """The loop; None where nobody has applied it, or where it was deleted."""
        return self._active.get(loop)

    def require(self, loop: str, revision: int = 0) -> ActiveLoop:
        """The loop, at this revision or a later one; raises LoopNotKnownYet where that is still to come."""
        active = self._active.get(loop)
        if active is None or active.revision < revision:
            raise LoopNotKnownYet(loop, revision)
        return active

    def life(self, loop: str) -> int:
        """The revision with which the loop's present lifetime began; 0 for a loop that is not there."""
        active = self._active.get(loop)
        return active.life if active else 0

    def kept_for(self) -> dict[str, timedelta]:
        """For how long loops keep entities that are not seen, by loop; those that keep all are left out."""
        kept = {name: active.spec.retention.personal for name, active in self._active.items()}
        return {name: timedelta(seconds=parse_duration_s(text)) for name, text in kept.items() if text is not None}

    def may_have_remains(self, loop: str) -> bool:
        """Whether state of a lifetime that has ended may still be stored."""
        return self.known.is_deleted(loop) or self.life(loop) > 1


def _activate(state: LoopState, earlier: Mapping[int, LoopSpec]) -> ActiveLoop:
    spec = state.data.spec
    return ActiveLoop(spec, compile_features(spec), state.revision, state.data.life, earlier)


def _latest(specs: dict[int, LoopSpec]) -> dict[int, LoopSpec]:
    return dict(islice(specs.items(), max(0, len(specs) - EARLIER_REVISIONS), None))
