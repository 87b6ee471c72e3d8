"""What the registry remembers between events to decide the next step: evidence and counters, no decision."""

from __future__ import annotations

from pydantic import BaseModel, Field

from everloop_learning.version import line_of
from everloop_registry.domain.betting import Bet
from everloop_registry.domain.gate import Gate
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.refresh import Recent, Waiting
from everloop_schemas import registry as r
from everloop_schemas.registry import Decided

INSTANCES = 50
"""Of so many instances at most it is remembered that they serve another version."""
LIVE = 500
"""An instance that has said nothing for so many outcomes is not waited for."""


class Instead(BaseModel):
    """What an instance serves, `version`, because it cannot load the champion `of`."""

    of: str
    version: str
    reason: str


class Work(BaseModel):
    """The working state of one loop.

    `outcomes` is the loop's outcome count as monitoring tells it, `evaluated` the last offset taken from there.
    `guard` gathers evidence that the candidate is worse than the champion, in what serving predicted; `judged` counts
    the outcomes of this step that both had predicted. `served` is the loss of what was served, by offset. `waiting`
    are refreshes without evidence yet, and `learned` counts the outcomes that training told of. `ready` are the
    instances that hold the candidate's line since outcome `ready_at`; `instances` says when each last spoke, and
    `unserved` which of them answer with another version than the champion.
    """

    gate: Gate = Field(default_factory=Gate)
    guard: Bet = Field(default_factory=Bet)
    recent: dict[str, Recent] = Field(default_factory=dict)
    runs: dict[str, str] = Field(default_factory=dict)
    outcomes: int = 0
    evaluated: int = -1
    learned: int = 0
    judged: int = 0
    served: dict[int, float] = Field(default_factory=dict)
    waiting: list[Waiting] = Field(default_factory=list)
    ready: list[str] = Field(default_factory=list)
    ready_at: int | None = None
    instances: dict[str, int] = Field(default_factory=dict)
    unserved: dict[str, Instead] = Field(default_factory=dict)

    def heard(self, instance: str) -> None:
        """An instance spoke; those that have been silent for long are forgotten."""
        self.instances[instance] = self.outcomes
        self.instances = {i: at for i, at in self.instances.items() if self.outcomes - at <= LIVE}

    def serves(self, instance: str, of: str, version: str | None, reason: str) -> None:
        """An instance holds version `of`, or could not load it and serves another."""
        if version is not None:
            self.unserved = dict(
                [*self.unserved.items(), (instance, Instead(of=of, version=version, reason=reason))][-INSTANCES:]
            )
        elif (told := self.unserved.get(instance)) and told.of == of:
            del self.unserved[instance]

    def all_ready(self) -> bool:
        """Whether every live instance holds the candidate."""
        live = {i for i, at in self.instances.items() if self.outcomes - at <= LIVE}
        return bool(self.ready) and live <= set(self.ready)

    def follow(self, decision: Decided, before: Loop | None) -> None:
        """Do what a decision means for the evidence: a new reign, or a lost try."""
        match decision:
            case r.RolloutChanged(data=step):
                self._step(decision.subject, step, before)
            case r.ModelPromoted(data=new):
                self._count(new.outcomes)
                self._new_reign()
            case r.ModelRefreshed(data=fresh):
                self._count(fresh.outcomes)
            case r.ModelRolledBack(data=back):
                self._count(back.outcomes)
                self._rolled_back(back, before)
            case r.LoopResumed():
                self._new_reign()

    def recall(self, decision: Decided) -> None:
        """After a rebuild: what lies behind a decision of the past is not to be counted again."""
        match decision:
            case r.GateDecided(data=gate):
                self.gate.seen(gate.offset)
            case r.VersionRegistered(data=known):
                self.gate.seen(known.model.offset)
                self.runs[known.model.line] = known.model.run
        self.gate.alarm = max(self.gate.alarm, self.gate.last)

    def _step(self, subject: str, step: r.RolloutChangedData, before: Loop | None) -> None:
        self._count(step.outcomes)
        self.judged = 0
        if step.stage == "idle":
            self.gate.restart(line_of(subject))
        if step.stage == "shadow":
            self._reset_rollout()

    def _rolled_back(self, back: r.ModelRolledBackData, before: Loop | None) -> None:
        candidate = before.candidate if before else None
        if back.by == "guardrail" and candidate is not None and back.rolled_back == candidate.version:
            self.gate.restart(line_of(back.rolled_back))
            self._reset_rollout()
        elif back.by == "person" or line_of(back.version) != line_of(back.rolled_back):
            self._new_reign()

    def _new_reign(self) -> None:
        self.gate.new_reign()
        self._reset_rollout()

    def _reset_rollout(self) -> None:
        self.guard, self.ready, self.ready_at, self.judged = Bet(), [], None, 0

    def _count(self, outcomes: int) -> None:
        self.outcomes = max(self.outcomes, outcomes)
