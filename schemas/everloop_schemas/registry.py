"""What the registry publishes: the decisions about each loop, in order, and the loop's state as their fold."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from everloop_schemas.envelope import FOREVER, ControlData, ControlTimestamp, SignedEvent, Topic
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.training import DataSet, ModelTrainedData, StoredModel

BASELINE = "0"
"""Version 0, and its line: the running majority class or mean of the loop's labels."""

Stage = Literal["idle", "training", "shadow", "canary"]
"""Where a rollout stands; `training` waits for a fresh version of the line that won the gate."""

ApprovalStep = Literal["before_canary", "before_champion"]
"""The step of a rollout that people must approve: the first share of the traffic, or becoming champion."""


class Decided(SignedEvent):
    """A decision: the `sequence`-th of its loop, chained by `prevhash` (sha256 of the one before, on the wire).

    `actor` is who gave the command that led to it, or `everloop/registry` where an event did (see `causationid`).
    It is absent in records from before it was recorded, so that their bytes and hashes stay the same; a reader takes
    those for `anonymous`. `actor_kind` says how the actor is known, where that is asked: `key`, `token` or `service`;
    `actor_source` is the key's prefix, or the provider's URL.
    """

    topic: ClassVar[Topic] = Topic("registry.decided.v1", owner="registry", keyed_by="loop", retention_ms=FOREVER)
    keeps_wire: ClassVar[bool] = True  # the next decision hashes these bytes
    signed_for: ClassVar[Literal["artifacts", "decisions"]] = "decisions"
    type: str = ""
    source: str = "everloop/registry"
    sequence: int = Field(ge=0)
    prevhash: str
    actor: str | None = None
    actor_kind: str | None = None
    actor_source: str | None = None


class LoopAppliedData(ControlData):
    """A new revision of the loop's spec.

    `team` is the one that the loop belongs to, that of who created it; `feature_cost` what its features cost that
    team's quota, in microseconds per event. Both are absent where the loop has no team.
    """

    spec: LoopSpec
    team: str | None = None
    feature_cost: float | None = None


class LoopApplied(Decided):
    """A loop was created or its spec changed; `revision` is the new one."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.loop_applied.v1"] = "registry.loop_applied.v1"
    data: LoopAppliedData


class VersionRegisteredData(ControlData):
    """A trained version passed the contract checks and can be served."""

    model: ModelTrainedData


class VersionRegistered(Decided):
    """A version was registered; `subject` is its name."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.version_registered.v1"] = "registry.version_registered.v1"
    data: VersionRegisteredData


class GateDecidedData(ControlData):
    """The gate's decision on a line: paired betting test of `line` against `champion_line`, passed at e >= threshold.

    `outcomes` counts those of the test, `offset` is the last of them. `urgent` means that the win followed an alarm:
    the rollout has no shadow step and a short canary.
    """

    line: str
    champion_line: str
    passed: bool
    log_e: float
    log_threshold: float
    outcomes: int
    epoch: int
    offset: int
    reason: str
    urgent: bool = False


class GateDecided(Decided):
    """A line passed the gate or is held back by a requirement, or a version was refused; `subject` is which."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.gate_decided.v1"] = "registry.gate_decided.v1"
    data: GateDecidedData


class RolloutChangedData(ControlData):
    """A step of a rollout: `share` of the traffic goes to `candidate` from now on."""

    stage: Stage
    candidate: str | None = None
    share: float
    outcomes: int
    reason: str


class RolloutChanged(Decided):
    """A rollout began, took a step, or ended without a promotion; `subject` is the candidate."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.rollout_changed.v1"] = "registry.rollout_changed.v1"
    data: RolloutChangedData


class ModelPromotedData(ControlData):
    """The champion changed from `previous` to another line, after `outcomes` of the loop."""

    version: str
    previous: str
    reason: str
    outcomes: int = 0


class ModelPromoted(Decided):
    """A new champion; `subject` is its version."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.model_promoted.v1"] = "registry.model_promoted.v1"
    data: ModelPromotedData


class ModelRefreshedData(ControlData):
    """A newer version of a line took the place of `previous`, as champion or as candidate."""

    version: str
    previous: str
    slot: Literal["champion", "candidate"]
    outcomes: int = 0


class ModelRefreshed(Decided):
    """A line's newer snapshot reaches serving; the champion's line is the same."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.model_refreshed.v1"] = "registry.model_refreshed.v1"
    data: ModelRefreshedData


class ModelRolledBackData(ControlData):
    """`rolled_back` no longer serves, and `version` is champion. A person's rollback of a champion pins the loop to it.

    Where `rolled_back` is the candidate, a guardrail or a person (`by`) has ended its rollout, and nothing is pinned.
    """

    version: str
    rolled_back: str
    by: Literal["person", "guardrail"]
    reason: str
    pinned: bool
    outcomes: int = 0


class ModelRolledBack(Decided):
    """A champion or a candidate was rolled back; `subject` is that version."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.model_rolled_back.v1"] = "registry.model_rolled_back.v1"
    data: ModelRolledBackData


class LoopResumedData(ControlData):
    """The pin of a person's rollback is lifted."""

    reason: str


class LoopResumed(Decided):
    """Gate and rollout act again on this loop."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.loop_resumed.v1"] = "registry.loop_resumed.v1"
    data: LoopResumedData


class PendingApproval(ControlData):
    """A candidate that waits: `approvals` different people must approve before `expires`, `approved_by` have."""

    version: str
    step: ApprovalStep
    approvals: int
    approved_by: tuple[str, ...] = ()
    asked: ControlTimestamp
    expires: ControlTimestamp


class LoopDeletedData(ControlData):
    """Why a loop was deleted."""

    reason: str


class LoopDeleted(Decided):
    """The loop is deleted: its events are ignored, and applying its name again begins a new lifetime."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.loop_deleted.v1"] = "registry.loop_deleted.v1"
    data: LoopDeletedData


class LiveVersion(ControlData):
    """A version that serving holds, with its artifact; the baseline has none. `seal` is as in StoredModel."""

    version: str
    uri: str | None = None
    sha256: str | None = None
    size: int = 0
    format: str = "river"
    signature: tuple[str, ...] = ()
    seal: str | None = None
    since: ControlTimestamp
    since_outcomes: int = 0


class Submission(ControlData):
    """A model that was trained elsewhere and challenges: training starts a line for it, which learns nothing."""

    version: str
    line: str
    run: str
    model: ModelSpec
    artifact: StoredModel
    data_set: DataSet | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


class LoopStateData(ControlData):
    """The fold of a loop's decisions, for the other services.

    `share` of the predictions (a stable hash of the prediction id) goes to `candidate`, the rest to `champion`;
    in stage `shadow` the share is 0. Both always predict, the one that is not served as a shadow.
    `run` is the run behind the candidate.

    `deleted` means that the loop was deleted. A loop that is applied again begins a new lifetime with revision `life`:
    events with an earlier revision belong to the lifetime before, and are ignored. `kept` are the versions whose
    artifacts may be needed; those of other versions with an offset below `judged` may be deleted. `submissions` are
    the models that came in last from elsewhere, oldest first. `head` is the hash of decision `sequence`. `approval` is
    what the candidate waits for. `team` is the one that the loop belongs to.
    """

    spec: LoopSpec
    champion: LiveVersion
    candidate: LiveVersion | None = None
    winner: str | None = None
    stage: Stage = "idle"
    share: float = 0.0
    pinned: bool = False
    run: str | None = None
    sequence: int
    deleted: bool = False
    life: int = 1
    kept: tuple[str, ...] = ()
    judged: int = -1
    submissions: tuple[Submission, ...] = ()
    head: str | None = None
    approval: PendingApproval | None = None
    team: str | None = None


class LoopState(SignedEvent):
    """The state of a loop after decision `data.sequence`; the last record of a key is the current one."""

    topic: ClassVar[Topic] = Topic(
        "registry.loop_state.v1", owner="registry", keyed_by="loop", retention_ms=FOREVER, compacted=True
    )
    signed_for: ClassVar[Literal["artifacts", "decisions"]] = "decisions"
    type: Literal["registry.loop_state.v1"] = "registry.loop_state.v1"
    source: str = "everloop/registry"
    data: LoopStateData
