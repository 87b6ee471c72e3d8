"""A loop as the fold of its decisions: `fold(state, decision)` is the only way it ever changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from everloop_learning.version import Version, line_of
from everloop_registry.domain.approval import fold_approval
from everloop_registry.errors import DecisionsInconsistent
from everloop_schemas import registry as r
from everloop_schemas.approvals import ApprovalRequested, CandidateApproved
from everloop_schemas.envelope import ControlTimestamp, derived_id
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import (
    BASELINE,
    Decided,
    LiveVersion,
    LoopState,
    LoopStateData,
    PendingApproval,
    Stage,
    Submission,
)
from everloop_schemas.training import ModelTrainedData, StoredModel

MAX_PREVIOUS_CHAMPIONS = 10
"""The number of earlier champions that are remembered, for rollbacks that name no version."""
MAX_KEPT_VERSIONS = 20
"""The number of versions, the ones registered last, that a rollback may name: their artifacts are kept."""
MAX_SUBMISSIONS = 5
"""The number of submitted models, the ones that came in last, that challenge: each costs the gate some sensitivity."""
MAX_HELD_BACK = 20
"""The number of lines, the last ones, whose reason not to pass the gate is remembered."""
Models = Mapping[str, ModelTrainedData]
"""Registered versions by name: at least those that the decision at hand names."""


class Loop(BaseModel):
    """The fold of a loop's decisions up to the one numbered `sequence`.

    `previous_champions` are the champions before this one, latest last; `fallback` is what served before the last
    promotion or refresh. `staged_at` is the loop's outcome count at the last step of the rollout, `gate_offset` where
    its line won, `urgent` that the win followed an alarm. `life` is the revision with which the loop's lifetime began,
    `registered` the latest versions of this lifetime, `judged` the highest offset of a version that was registered or
    refused. `submissions` are the models that were submitted last, `held_back` the reasons why lines do not pass the
    gate although they are better than this champion, `approval` what the candidate waits for. `team` is the one that
    the loop belongs to, and `feature_cost` what its features cost that team, in microseconds per event.
    """

    model_config = ConfigDict(frozen=True)

    loop: str
    revision: int
    applied: ControlTimestamp
    spec: LoopSpec
    sequence: int
    time: ControlTimestamp
    champion: LiveVersion
    candidate: LiveVersion | None = None
    fallback: LiveVersion | None = None
    previous_champions: tuple[LiveVersion, ...] = ()
    winner: str | None = None
    stage: Stage = "idle"
    share: float = 0.0
    urgent: bool = False
    run: str | None = None
    gate_offset: int = -1
    staged_at: int = 0
    pinned: bool = False
    deleted: bool = False
    life: int = 1
    registered: tuple[str, ...] = ()
    judged: int = -1
    submissions: tuple[Submission, ...] = ()
    held_back: dict[str, str] = Field(default_factory=dict)
    approval: PendingApproval | None = None
    team: str | None = None
    feature_cost: float = 0.0

    @property
    def kept(self) -> tuple[str, ...]:
        """The versions whose artifacts may be needed: the live ones, and those that a rollback may name."""
        live = (self.champion, self.candidate, self.fallback, *self.previous_champions)
        named = {v.version for v in live if v is not None and v.version != BASELINE}
        challenging = {submission.version for submission in self.submissions}
        return tuple(sorted(named.union(self.registered, challenging)))

    @property
    def slots(self) -> dict[str, str]:
        """`champion` and `candidate` by the version that is it."""
        candidate = {self.candidate.version: "candidate"} if self.candidate else {}
        return {self.champion.version: "champion", **candidate}

    @property
    def previous_champion(self) -> LiveVersion | None:
        """The champion before the last promotion: where a person's rollback goes by default."""
        return self.previous_champions[-1] if self.previous_champions else None

    def is_past(self, revision: int) -> bool:
        """Whether an event of this revision belongs to a lifetime that has ended; one that carries none has 0."""
        return self.deleted or 0 < revision < self.life

    def state_event(self, head: str) -> LoopState:
        """The state as it is published for the other services; `head` is the hash of the last decision."""
        kind, names = LoopState.type_name(), LoopStateData.model_fields.keys() - {"head"}
        return LoopState(
            id=derived_id(self.loop, kind, self.sequence),
            time=self.time,
            subject=self.loop,
            loop=self.loop,
            revision=self.revision,
            correlationid=self.run,
            data=LoopStateData(head=head, **{name: getattr(self, name) for name in names}),
        )


IDLE: Mapping[str, object] = {
    "stage": "idle",
    "share": 0.0,
    "candidate": None,
    "winner": None,
    "run": None,
    "urgent": False,
    "gate_offset": -1,
    "approval": None,
}


def fold(loop: Loop | None, decision: Decided, models: Models) -> Loop:
    """The loop after a decision; raises DecisionsInconsistent where the decision cannot follow."""
    if decision.sequence != (loop.sequence + 1 if loop else 0):
        raise DecisionsInconsistent(
            f"{decision.loop}: decision {decision.sequence} does not follow {loop and loop.sequence}"
        )
    if isinstance(decision, r.LoopApplied):
        return _apply_spec(loop, decision)
    if loop is None:
        raise DecisionsInconsistent(f"{decision.loop}: its first decision is {decision.type}, not a spec")
    changes = _changes(loop, decision, models)
    return loop.model_copy(update={**changes, "sequence": decision.sequence, "time": decision.time})


def _apply_spec(loop: Loop | None, decision: r.LoopApplied) -> Loop:
    spec = decision.data.spec
    if spec.loop != decision.loop:
        raise DecisionsInconsistent(f"{decision.loop}: decision {decision.sequence} applies the spec of {spec.loop}")
    if loop is not None and not loop.deleted:
        changes = {"revision": decision.revision, "applied": decision.time, "spec": spec, "held_back": {}}
        cost = {"feature_cost": decision.data.feature_cost or 0.0}
        return loop.model_copy(update={**changes, **cost, "sequence": decision.sequence, "time": decision.time})
    return Loop(
        loop=decision.loop,
        revision=decision.revision,
        applied=decision.time,
        spec=spec,
        sequence=decision.sequence,
        time=decision.time,
        life=decision.revision,
        champion=LiveVersion(version=BASELINE, since=decision.time),
        team=decision.data.team,
        feature_cost=decision.data.feature_cost or 0.0,
    )


def _changes(loop: Loop, decision: Decided, models: Models) -> Mapping[str, object]:
    match decision:
        case r.GateDecided(data=gate) if gate.passed:
            held = {line: reason for line, reason in loop.held_back.items() if line != gate.line}
            won = {"winner": gate.line, "gate_offset": gate.offset, "urgent": gate.urgent, "held_back": held}
            return {**won, "stage": "training", "run": decision.correlationid}
        case r.RolloutChanged(data=step):
            return _step_changes(loop, step, decision.time, models)
        case r.ModelPromoted(data=promoted):
            champion = _live_version(loop, promoted.version, decision.time, promoted.outcomes, models)
            earlier = (*loop.previous_champions, loop.champion)[-MAX_PREVIOUS_CHAMPIONS:]
            followed = {"fallback": loop.champion, "previous_champions": earlier, "held_back": {}}
            return {**IDLE, "champion": champion, **followed}
        case r.ModelRefreshed(data=new):
            live = _live_version(loop, new.version, decision.time, new.outcomes, models)
            return {"candidate": live} if new.slot == "candidate" else {"champion": live, "fallback": loop.champion}
        case r.ModelRolledBack(data=back):
            return _rollback_changes(loop, back, decision.time, models)
        case r.LoopResumed():
            return {"pinned": False}
        case ApprovalRequested() | CandidateApproved():
            return {"approval": fold_approval(loop.approval, loop.candidate, decision)}
        case r.LoopDeleted():
            return {**IDLE, **_without_live_versions(decision.time), "pinned": False, "deleted": True}
        case r.VersionRegistered(data=known):
            registered = (*loop.registered, known.model.version)[-MAX_KEPT_VERSIONS:]
            judged = max(loop.judged, known.model.offset)
            return {"registered": registered, "judged": judged, "submissions": _submissions(loop, known.model)}
        case r.GateDecided(data=gate) if decision.subject == gate.line:
            others = [(line, reason) for line, reason in loop.held_back.items() if line != gate.line]
            return {"held_back": dict([*others, (gate.line, gate.reason)][-MAX_HELD_BACK:])}
        case r.GateDecided():
            return {"judged": max(loop.judged, Version.parse(decision.subject).offset)}
    return {}


def _submissions(loop: Loop, model: ModelTrainedData) -> tuple[Submission, ...]:
    if model.reason != "submitted":
        return loop.submissions
    manifest = model.manifest
    new = Submission(
        version=model.version,
        line=model.line,
        run=model.run,
        model=manifest.model,
        artifact=StoredModel(
            uri=model.uri,
            sha256=model.sha256,
            size=model.size,
            format=manifest.format,
            signature=model.signature,
            seal=model.seal,
        ),
        data_set=manifest.data_set,
        metrics=manifest.metrics,
    )
    return (*loop.submissions, new)[-MAX_SUBMISSIONS:]


def _without_live_versions(time: datetime) -> Mapping[str, object]:
    champion = LiveVersion(version=BASELINE, since=time)
    nothing: Mapping[str, tuple[str, ...]] = {"previous_champions": (), "registered": (), "submissions": ()}
    return {"champion": champion, "fallback": None, **nothing, "held_back": {}}


def _step_changes(loop: Loop, step: r.RolloutChangedData, time: datetime, models: Models) -> Mapping[str, object]:
    if step.stage == "idle":
        return {**IDLE, "staged_at": step.outcomes}
    changes: dict[str, object] = {"stage": step.stage, "share": step.share, "staged_at": step.outcomes}
    changes["approval"] = None
    if step.candidate is not None:
        same = loop.candidate is not None and loop.candidate.version == step.candidate
        candidate = loop.candidate if same else _live_version(loop, step.candidate, time, step.outcomes, models)
        changes |= {"candidate": candidate, "winner": None}
    return changes


def _rollback_changes(loop: Loop, back: r.ModelRolledBackData, time: datetime, models: Models) -> Mapping[str, object]:
    if loop.candidate is not None and back.rolled_back == loop.candidate.version:
        return {**IDLE, "staged_at": back.outcomes}
    champion = _live_version(loop, back.version, time, back.outcomes, models)
    earlier = loop.previous_champions
    if any(v.version == back.version for v in earlier):
        earlier = earlier[: max(i for i, v in enumerate(earlier) if v.version == back.version)]
    changes = {"champion": champion, "fallback": None, "previous_champions": earlier, "pinned": back.pinned}
    same_line = line_of(back.version) == line_of(loop.champion.version)
    return changes if back.by == "guardrail" and same_line else {**IDLE, **changes, "held_back": {}}


def _live_version(loop: Loop, version: str, time: datetime, outcomes: int, models: Models) -> LiveVersion:
    for known in (loop.candidate, loop.champion, loop.fallback, *reversed(loop.previous_champions)):
        if known is not None and known.version == version:
            return known.model_copy(update={"since": time, "since_outcomes": outcomes})
    if version == BASELINE:
        return LiveVersion(version=BASELINE, since=time, since_outcomes=outcomes)
    if version not in models:
        raise DecisionsInconsistent(f"{loop.loop}: version {version} is named but was never registered")
    model = models[version]
    return LiveVersion(
        version=version,
        uri=model.uri,
        sha256=model.sha256,
        size=model.size,
        format=model.manifest.format,
        signature=model.signature,
        seal=model.seal,
        since=time,
        since_outcomes=outcomes,
    )
