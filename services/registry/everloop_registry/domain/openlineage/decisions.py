"""What a lineage backend is told of decisions: versions that are registered, rollouts step by step, and who serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from everloop_learning.version import line_of
from everloop_registry.domain.openlineage import data_sets
from everloop_registry.domain.openlineage.event import Facets, Job, LineageSource, Part, RunEvent, State
from everloop_registry.domain.openlineage.loop_runs import LoopRuns
from everloop_registry.domain.openlineage.trainings import error
from everloop_schemas import registry as r
from everloop_schemas.approvals import ApprovalRequested, CandidateApproved
from everloop_schemas.lineage_facets import LineageDecision
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import BASELINE, Decided
from everloop_schemas.training import ModelTrainedData

Models = Mapping[str, ModelTrainedData]


def versions_of(decision: Decided, runs: LoopRuns) -> set[str]:
    """The versions whose description the events of a decision may need."""
    named = (decision.subject, *(getattr(decision.data, name, None) for name in ("version", "candidate")))
    return {name for name in (*named, runs.candidate, runs.champion) if name and name != BASELINE}


@dataclass
class DecisionTeller:
    """Tells one decision: `events` in order, and `runs`, the loop's open runs after it."""

    source: LineageSource
    decision: Decided
    runs: LoopRuns
    models: Models
    spec: LoopSpec | None = None

    def tell(self) -> list[RunEvent]:
        """The events of the decision, none where it moves no run; `runs` changes."""
        match self.decision:
            case r.LoopApplied() if self.runs.serve is None:
                return self._serve(BASELINE)
            case r.VersionRegistered(data=registered):
                return self._register(registered.model)
            case r.GateDecided(data=gate) if not gate.passed and self.decision.subject != gate.line:
                return self._refuse(gate.reason)
            case r.RolloutChanged(data=step) if step.stage == "idle":
                return self._end_rollout("ABORT")
            case r.RolloutChanged(data=step):
                return self._step(step.candidate)
            case ApprovalRequested() | CandidateApproved():
                return self._step(None) if self.runs.rollout else []
            case r.ModelPromoted(data=promoted):
                begun = [] if self.runs.rollout else self._step(promoted.version)
                return [*begun, *self._end_rollout("COMPLETE"), *self._serve(promoted.version)]
            case r.ModelRefreshed(data=new) if new.slot == "candidate":
                return self._step(new.version) if self.runs.rollout else []
            case r.ModelRefreshed(data=new):
                return self._serve(new.version)
            case r.ModelRolledBack(data=back):
                return self._roll_back(back)
            case r.LoopDeleted():
                return self._delete()
        return []

    def _register(self, model: ModelTrainedData) -> list[RunEvent]:
        run = self.source.run_id(self.decision.loop, "register", self.decision.id)
        learned, loop = data_sets.learned(self.decision.loop, model.manifest), self.decision.loop
        partition, signature = model.manifest.partition, model.signature
        inputs = [data_sets.named_outcomes(self.source, learned, partition, signature, self.spec)] if learned else []
        outputs = [data_sets.written_model(self.source, loop, model)]
        parent = self.source.parent(loop, model.run)
        return [
            self._event("START", "register", run, inputs=inputs, facets=parent),
            self._event("COMPLETE", "register", run, inputs=inputs, outputs=outputs, facets=parent),
        ]

    def _refuse(self, reason: str) -> list[RunEvent]:
        run = self.source.run_id(self.decision.loop, "register", self.decision.id)
        return [
            self._event("START", "register", run),
            self._event("FAIL", "register", run, facets=error(self.source, reason)),
        ]

    def _step(self, candidate: str | None) -> list[RunEvent]:
        """The rollout goes on, or begins where there is none."""
        begins, loop = self.runs.rollout is None, self.decision.loop
        run = self.runs.rollout or self.source.run_id(loop, "rollout", self.decision.sequence)
        self._change(rollout=run, candidate=candidate or self.runs.candidate)
        state: State = "START" if begins else "RUNNING"
        return [self._event(state, "rollout", run, inputs=self._model(self.runs.candidate))]

    def _end_rollout(self, state: State, facets: Facets | None = None) -> list[RunEvent]:
        if (run := self.runs.rollout) is None:
            return []
        event = self._event(state, "rollout", run, inputs=self._model(self.runs.candidate), facets=facets)
        self._change(rollout=None, candidate=None)
        return [event]

    def _serve(self, version: str) -> list[RunEvent]:
        """Another version is champion: the serving of the one before is over."""
        over = self._end_serving("COMPLETE")
        run = self.source.run_id(self.decision.loop, "serve", self.decision.sequence)
        self._change(serve=run, champion=version)
        return [*over, self._serving("START", run)]

    def _end_serving(self, state: State) -> list[RunEvent]:
        if (run := self.runs.serve) is None:
            return []
        event = self._serving(state, run)
        self._change(serve=None, champion=BASELINE)
        return [event]

    def _serving(self, state: State, run: str) -> RunEvent:
        inputs = [*self._model(self.runs.champion), data_sets.vectors(self.source)]
        return self._event(state, "serve", run, inputs=inputs, outputs=[data_sets.predictions(self.source)])

    def _roll_back(self, back: r.ModelRolledBackData) -> list[RunEvent]:
        state: State = "FAIL" if back.by == "guardrail" else "ABORT"
        facets = error(self.source, back.reason) if back.by == "guardrail" else None
        if back.rolled_back == self.runs.candidate:
            return self._end_rollout(state, facets)
        goes_on = back.by == "guardrail" and line_of(back.version) == line_of(back.rolled_back)
        return [*([] if goes_on else self._end_rollout("ABORT")), *self._serve(back.version)]

    def _delete(self) -> list[RunEvent]:
        """All runs of this lifetime end; those of a later one, which may have begun already, go on."""
        loop, life = self.decision.loop, self.decision.revision
        ended = [run for run, revision in self.runs.trainings.items() if revision <= life]
        events = [*self._end_rollout("ABORT"), *self._end_serving("ABORT")]
        events += [self._event("ABORT", "train", self.source.run_id(loop, "train", run)) for run in ended]
        for run in ended:
            self.runs = self.runs.without_training(run)
        return events

    def _change(self, **changes: Any) -> None:
        self.runs = self.runs.model_copy(update=changes)

    def _model(self, version: str | None) -> list[Part]:
        model = self.models.get(version or "")
        return [data_sets.used_model(self.source, self.decision.loop, model)] if model else []

    def _event(
        self,
        state: State,
        job: Job,
        run: str,
        *,
        inputs: Sequence[Part] = (),
        outputs: Sequence[Part] = (),
        facets: Facets | None = None,
    ) -> RunEvent:
        decision = self.decision
        parent = {} if job in ("train", "serve") else self.source.parent(decision.loop, decision.correlationid)
        return self.source.event(
            state,
            decision.time,
            decision.loop,
            job,
            run,
            run_facets=self.source.own(_described(decision, self.runs)) | parent | (facets or {}),
            inputs=inputs,
            outputs=outputs,
        )


def _described(decision: Decided, runs: LoopRuns) -> LineageDecision:
    data = decision.data
    return LineageDecision(
        loop=decision.loop,
        revision=decision.revision,
        sequence=decision.sequence,
        decision=decision.type,
        subject=decision.subject,
        reason=getattr(data, "reason", None),
        actor=decision.actor,
        causationid=decision.causationid,
        run=decision.correlationid,
        stage=getattr(data, "stage", None),
        share=getattr(data, "share", None),
        champion=runs.champion,
        candidate=runs.candidate,
    )
