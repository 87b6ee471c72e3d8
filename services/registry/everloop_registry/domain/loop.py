"""A loop as the fold of its decisions: `fold(state, decision)` is the only way it ever changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from everloop_learning.version import Version, line_of
from everloop_registry.errors import Broken
from everloop_schemas import registry as r
from everloop_schemas.envelope import Timestamp, derived_id
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import (
    BASELINE,
    Decided,
    LiveVersion,
    LoopState,
    LoopStateData,
    Stage,
)
from everloop_schemas.training import ModelTrainedData

GENESIS = "0" * 64
REIGNS = 10
"""So many earlier champions are remembered for a rollback without a named target."""
KEPT = 20
"""So many registered versions, the latest, can be gone back to by name: their artifacts are kept."""
Models = Mapping[str, ModelTrainedData]
"""Registered versions by name: at least those that the decision at hand names."""


class Loop(BaseModel):
    """All that a loop's decisions come to, after the one numbered `sequence`.

    `reigns` are the champions before this one, latest last; `fallback` is what served before the last promotion or
    refresh. `staged_at` is the loop's outcome count at the last step of the rollout, `gate_offset` where its line
    won, `urgent` that an alarm is behind it. `life` is the revision with which its present life began, `registered`
    the latest versions of it, `judged` the highest offset of a version that was registered or refused.
    """

    model_config = ConfigDict(frozen=True)

    loop: str
    revision: int
    applied: Timestamp
    spec: LoopSpec
    sequence: int
    time: Timestamp
    champion: LiveVersion
    candidate: LiveVersion | None = None
    fallback: LiveVersion | None = None
    reigns: tuple[LiveVersion, ...] = ()
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

    @property
    def kept(self) -> tuple[str, ...]:
        """The versions whose artifacts may be needed: those that are live, and those that can be gone back to."""
        live = (self.champion, self.candidate, self.fallback, *self.reigns)
        named = {v.version for v in live if v is not None and v.version != BASELINE}
        return tuple(sorted(named.union(self.registered)))

    @property
    def before(self) -> LiveVersion | None:
        """The champion before the last promotion: where a person's rollback goes by default."""
        return self.reigns[-1] if self.reigns else None

    def state(self) -> LoopState:
        """What the other services are told."""
        kind = LoopState.type_name()
        return LoopState(
            id=derived_id(self.loop, kind, self.sequence),
            time=self.time,
            subject=self.loop,
            loop=self.loop,
            revision=self.revision,
            correlationid=self.run,
            data=LoopStateData(**{f: getattr(self, f) for f in LoopStateData.model_fields}),
        )


IDLE: Mapping[str, object] = {
    "stage": "idle",
    "share": 0.0,
    "candidate": None,
    "winner": None,
    "run": None,
    "urgent": False,
    "gate_offset": -1,
}


def fold(loop: Loop | None, decision: Decided, models: Models) -> Loop:
    """The loop after a decision; raises Broken where the decision cannot follow."""
    if decision.sequence != (loop.sequence + 1 if loop else 0):
        raise Broken(f"{decision.loop}: decision {decision.sequence} does not follow {loop and loop.sequence}")
    if isinstance(decision, r.LoopApplied):
        return _applied(loop, decision)
    if loop is None:
        raise Broken(f"{decision.loop}: its first decision is {decision.type}, not a spec")
    change = _change(loop, decision, models)
    return loop.model_copy(update={**change, "sequence": decision.sequence, "time": decision.time})


def _applied(loop: Loop | None, decision: r.LoopApplied) -> Loop:
    spec = decision.data.spec
    if spec.loop != decision.loop:
        raise Broken(f"{decision.loop}: decision {decision.sequence} applies the spec of {spec.loop}")
    told = {"revision": decision.revision, "applied": decision.time, "spec": spec}
    if loop is not None and not loop.deleted:
        return loop.model_copy(update={**told, "sequence": decision.sequence, "time": decision.time})
    return Loop(
        loop=decision.loop,
        revision=decision.revision,
        applied=decision.time,
        spec=spec,
        sequence=decision.sequence,
        time=decision.time,
        life=decision.revision,
        champion=LiveVersion(version=BASELINE, since=decision.time),
    )


def _change(loop: Loop, decision: Decided, models: Models) -> Mapping[str, object]:
    match decision:
        case r.GateDecided(data=gate) if gate.passed:
            return {
                "winner": gate.line,
                "stage": "training",
                "urgent": gate.urgent,
                "gate_offset": gate.offset,
                "run": decision.correlationid,
            }
        case r.RolloutChanged(data=step):
            return _step(loop, step, decision.time, models)
        case r.ModelPromoted(data=promoted):
            champion = _named(loop, promoted.version, decision.time, promoted.outcomes, models)
            reigns = (*loop.reigns, loop.champion)[-REIGNS:]
            return {**IDLE, "champion": champion, "fallback": loop.champion, "reigns": reigns}
        case r.ModelRefreshed(data=new):
            live = _named(loop, new.version, decision.time, new.outcomes, models)
            return {"candidate": live} if new.slot == "candidate" else {"champion": live, "fallback": loop.champion}
        case r.ModelRolledBack(data=back):
            return _rolled_back(loop, back, decision.time, models)
        case r.LoopResumed():
            return {"pinned": False}
        case r.LoopDeleted():
            return {**IDLE, **_nothing_live(decision.time), "pinned": False, "deleted": True}
        case r.VersionRegistered(data=known):
            registered = (*loop.registered, known.model.version)[-KEPT:]
            return {"registered": registered, "judged": max(loop.judged, known.model.offset)}
        case r.GateDecided():
            return {"judged": max(loop.judged, Version.parse(decision.subject).offset)}
    return {}


def _nothing_live(time: datetime) -> Mapping[str, object]:
    champion = LiveVersion(version=BASELINE, since=time)
    return {"champion": champion, "fallback": None, "reigns": (), "registered": ()}


def _step(loop: Loop, step: r.RolloutChangedData, time: datetime, models: Models) -> Mapping[str, object]:
    if step.stage == "idle":
        return {**IDLE, "staged_at": step.outcomes}
    change: dict[str, object] = {"stage": step.stage, "share": step.share, "staged_at": step.outcomes}
    if step.candidate is not None:
        same = loop.candidate is not None and loop.candidate.version == step.candidate
        candidate = loop.candidate if same else _named(loop, step.candidate, time, step.outcomes, models)
        change |= {"candidate": candidate, "winner": None}
    return change


def _rolled_back(loop: Loop, back: r.ModelRolledBackData, time: datetime, models: Models) -> Mapping[str, object]:
    if loop.candidate is not None and back.rolled_back == loop.candidate.version and back.by == "guardrail":
        return {**IDLE, "staged_at": back.outcomes}
    champion = _named(loop, back.version, time, back.outcomes, models)
    reigns = loop.reigns
    if any(v.version == back.version for v in reigns):
        reigns = reigns[: max(i for i, v in enumerate(reigns) if v.version == back.version)]
    change = {"champion": champion, "fallback": None, "reigns": reigns, "pinned": back.pinned}
    same_line = line_of(back.version) == line_of(loop.champion.version)
    return change if back.by == "guardrail" and same_line else {**IDLE, **change}


def _named(loop: Loop, version: str, time: datetime, outcomes: int, models: Models) -> LiveVersion:
    for known in (loop.candidate, loop.champion, loop.fallback, *reversed(loop.reigns)):
        if known is not None and known.version == version:
            return known.model_copy(update={"since": time, "since_outcomes": outcomes})
    if version == BASELINE:
        return LiveVersion(version=BASELINE, since=time, since_outcomes=outcomes)
    if version not in models:
        raise Broken(f"{loop.loop}: version {version} is named but was never registered")
    model = models[version]
    return LiveVersion(
        version=version,
        uri=model.uri,
        sha256=model.sha256,
        size=model.size,
        format=model.manifest.format,
        signature=model.signature,
        since=time,
        since_outcomes=outcomes,
    )
