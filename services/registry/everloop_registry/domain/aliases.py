"""The aliases of a registered model in MLflow's words: which versions serve, and which one challenges."""

from __future__ import annotations

from typing import NamedTuple

from everloop_learning.version import line_of
from everloop_registry.domain.loop import Loop
from everloop_schemas import registry as r
from everloop_schemas.registry import BASELINE, Decided

CHAMPION = "champion"
CANDIDATE_ALIASES = ("challenger", "candidate")
"""Two words for the version that a rollout tries: MLflow's users know the first, Everloop's the second."""


class Aliases(NamedTuple):
    """The champion and the candidate of a loop by their names; None where there is none, or version 0."""

    champion: str | None = None
    candidate: str | None = None

    @classmethod
    def of(cls, loop: Loop) -> Aliases:
        """The aliases of a loop as it is."""
        champion = None if loop.champion.version == BASELINE else loop.champion.version
        return cls(champion, loop.candidate.version if loop.candidate else None)

    def by_name(self) -> dict[str, str | None]:
        """The version of each alias."""
        return {CHAMPION: self.champion, **dict.fromkeys(CANDIDATE_ALIASES, self.candidate)}

    def given(self) -> dict[str, str]:
        """The version of each alias that there is."""
        return {alias: version for alias, version in self.by_name().items() if version is not None}

    def after(self, decision: Decided) -> Aliases:
        """The aliases once this decision was made."""
        match decision:
            case r.ModelPromoted(data=promoted):
                return Aliases(promoted.version, None)
            case r.ModelRefreshed(data=new) if new.slot == "candidate":
                return self._replace(candidate=new.version)
            case r.ModelRefreshed(data=new):
                return self._replace(champion=new.version)
            case r.RolloutChanged(data=step) if step.stage == "idle":
                return self._replace(candidate=None)
            case r.RolloutChanged(data=step):
                return self._replace(candidate=step.candidate or self.candidate)
            case r.ModelRolledBack(data=back):
                return self._rolled_back(back)
            case r.LoopDeleted():
                return Aliases()
        return self

    def _rolled_back(self, back: r.ModelRolledBackData) -> Aliases:
        if back.rolled_back == self.candidate:
            return self._replace(candidate=None)
        champion = None if back.version == BASELINE else back.version
        same_line = back.by == "guardrail" and line_of(back.version) == line_of(back.rolled_back)
        return Aliases(champion, self.candidate if same_line else None)
