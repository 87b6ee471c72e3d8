"""What the registry remembers between events to decide the next step: evidence and counters, no decision."""

from __future__ import annotations

from pydantic import BaseModel, Field

from everloop_learning.version import line_of
from everloop_registry.domain.betting import BettingTest
from everloop_registry.domain.gate import Gate
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.recent_losses import RecentLosses
from everloop_registry.domain.run_records import LineScore
from everloop_schemas import registry as r
from everloop_schemas.envelope import ControlTimestamp
from everloop_schemas.registry import Decided

MAX_RUNS = 100
"""The limit of lines whose runs are remembered; the oldest is evicted."""
MAX_SUBSTITUTES = 50
"""The limit of remembered instances that serve another version than the champion."""
MAX_SUBMITTED = 1_000
"""The limit of submissions whose times are remembered, for their quota."""
INSTANCE_TIMEOUT_OUTCOMES = 500
"""The outcomes after which a rollout no longer waits for an instance that has reported nothing."""


class SubstituteVersion(BaseModel):
    """The version that an instance serves because it cannot load the champion, `champion`."""

    champion: str
    version: str
    reason: str


class WaitingRefresh(BaseModel):
    """A newer version of a live line that waits for evidence; `learned_outcomes` is the loop's count when it came."""

    version: str
    line: str
    offset: int
    learned_outcomes: int


class WorkingState(BaseModel):
    """The working state of one loop.

    `outcomes` is the loop's outcome count as monitoring reports it, `evaluated_offset` the last offset of its
    evaluations. `learned_outcomes` counts the outcomes that training has reported losses for. `guard` gathers evidence
    that the candidate is worse than the champion, in what serving predicted; `compared_outcomes` counts the outcomes
    of this step that both had predicted. `served` is the loss of what was served, by offset. `ready_instances` hold
    the candidate's line, all of them since outcome `ready_at`; `instances` has each instance's last report, as an
    outcome count, and `substitutes` the version that an instance serves in place of the champion. `submitted` are the
    times of the last models that were submitted, `scores` the losses of each line so far, as its run shows them.
    """

    gate: Gate = Field(default_factory=Gate)
    guard: BettingTest = Field(default_factory=BettingTest)
    recent: dict[str, RecentLosses] = Field(default_factory=dict)
    runs: dict[str, str] = Field(default_factory=dict)
    outcomes: int = 0
    evaluated_offset: int = -1
    learned_outcomes: int = 0
    compared_outcomes: int = 0
    served: dict[int, float] = Field(default_factory=dict)
    waiting_refreshes: list[WaitingRefresh] = Field(default_factory=list)
    ready_instances: list[str] = Field(default_factory=list)
    ready_at: int | None = None
    instances: dict[str, int] = Field(default_factory=dict)
    substitutes: dict[str, SubstituteVersion] = Field(default_factory=dict)
    submitted: list[ControlTimestamp] = Field(default_factory=list)
    scores: dict[str, LineScore] = Field(default_factory=dict)

    def record_run(self, line: str, run: str) -> None:
        """Remember which run a line belongs to."""
        self.runs[line] = run
        while len(self.runs) > MAX_RUNS:
            del self.runs[next(iter(self.runs))]

    def record_instance(self, instance: str) -> None:
        """Note that an instance reported; those that have not for long are evicted."""
        self.instances[instance] = self.outcomes
        self.instances = {i: at for i, at in self.instances.items() if not self._is_timed_out(at)}

    def record_substitute(self, instance: str, champion: str, version: str | None, reason: str) -> None:
        """Note that an instance serves `version` as it could not load `champion`, or, with None, that it holds it."""
        if version is not None:
            substitute = SubstituteVersion(champion=champion, version=version, reason=reason)
            self.substitutes = dict([*self.substitutes.items(), (instance, substitute)][-MAX_SUBSTITUTES:])
        elif (known := self.substitutes.get(instance)) and known.champion == champion:
            del self.substitutes[instance]

    def all_instances_ready(self) -> bool:
        """Whether every live instance holds the candidate."""
        live = {i for i, at in self.instances.items() if not self._is_timed_out(at)}
        return bool(self.ready_instances) and live <= set(self.ready_instances)

    def follow_decision(self, decision: Decided, before: Loop | None) -> None:
        """Restart tests and counters as a decision about the loop `before` requires."""
        match decision:
            case r.RolloutChanged(data=step):
                self._follow_step(decision.subject, step)
            case r.ModelPromoted(data=promoted):
                self._raise_outcomes(promoted.outcomes)
                self._restart_tests()
            case r.ModelRefreshed(data=refreshed):
                self._raise_outcomes(refreshed.outcomes)
            case r.ModelRolledBack(data=back):
                self._raise_outcomes(back.outcomes)
                self._follow_rollback(back, before)
            case r.LoopResumed():
                self._restart_tests()
            case r.LoopApplied(data=applied) if before is not None and applied.spec.metric != before.spec.metric:
                self.gate.restart_for_champion()  # its evidence was by another metric
                self.guard = BettingTest()
            case r.VersionRegistered(data=known) if known.model.reason == "submitted":
                self.submitted = [*self.submitted, decision.time][-MAX_SUBMITTED:]

    def skip_past(self, decision: Decided) -> None:
        """Do not count outcomes up to a replayed decision: the evidence from them is lost."""
        match decision:
            case r.GateDecided(data=gate):
                self.gate.skip_to(gate.offset)
            case r.VersionRegistered(data=known):
                self.gate.skip_to(known.model.offset)
                self.runs[known.model.line] = known.model.run
        self.gate.alarm_offset = max(self.gate.alarm_offset, self.gate.last_offset)

    def _is_timed_out(self, reported_at: int) -> bool:
        return self.outcomes - reported_at > INSTANCE_TIMEOUT_OUTCOMES

    def _follow_step(self, subject: str, step: r.RolloutChangedData) -> None:
        self._raise_outcomes(step.outcomes)
        self.compared_outcomes = 0
        if step.stage == "idle":
            self.gate.restart_line(line_of(subject))
        if step.stage == "shadow":
            self._reset_rollout()

    def _follow_rollback(self, back: r.ModelRolledBackData, before: Loop | None) -> None:
        candidate = before.candidate if before else None
        if candidate is not None and back.rolled_back == candidate.version:
            self.gate.restart_line(line_of(back.rolled_back))
            self._reset_rollout()
        elif back.by == "person" or line_of(back.version) != line_of(back.rolled_back):
            self._restart_tests()

    def _restart_tests(self) -> None:
        self.gate.restart_for_champion()
        self._reset_rollout()

    def _reset_rollout(self) -> None:
        self.guard, self.ready_instances, self.ready_at, self.compared_outcomes = BettingTest(), [], None, 0

    def _raise_outcomes(self, outcomes: int) -> None:
        self.outcomes = max(self.outcomes, outcomes)
