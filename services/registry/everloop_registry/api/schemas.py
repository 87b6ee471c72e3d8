"""What the registry answers, for the OpenAPI document; `views` renders it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion, PendingApproval
from everloop_schemas.training import DataSet, ModelTrainedData


class LoopFile(BaseModel):
    """A loop file as it was read, whatever is in it: the registry checks it, and names each field that is wrong."""

    model_config = ConfigDict(extra="allow")


class Substitute(BaseModel):
    """What an instance that cannot load the champion serves, and why."""

    version: str
    reason: str | None


class Champion(LiveVersion):
    """The version that serves; `serving` names the instances that cannot load it."""

    serving: dict[str, Substitute] = Field(default_factory=dict)


class LoopView(BaseModel):
    """A loop at one moment: spec, live versions and rollout."""

    loop: str
    team: str | None = Field(description="the team that the loop belongs to, that of who created it")
    revision: int = Field(description="the revision of the spec; quoted, it is the ETag")
    applied: str
    champion: Champion
    candidate: LiveVersion | None
    previous: str | None
    winner: str | None
    stage: str
    share: float
    approval: PendingApproval | None = Field(description="the approval that the candidate waits for")
    pinned: bool
    run: str | None
    sequence: int
    decided: str
    spec: LoopSpec


class RolledBack(LoopView):
    """The loop after a rollback, and the version that no longer serves."""

    rolled_back: str | None


class LoopSummary(BaseModel):
    """A loop in short."""

    loop: str
    team: str | None
    revision: int
    stage: str
    share: float
    pinned: bool
    champion: str


class LoopList(BaseModel):
    """Every loop, in short."""

    loops: list[LoopSummary]


class RegisteredVersion(ModelTrainedData):
    """A version, when it was registered, whether it is live, and whether its artifact is kept."""

    registered: str
    slot: str | None
    kept: bool


class VersionList(BaseModel):
    """Every registered version, oldest first."""

    loop: str
    versions: list[RegisteredVersion]


class SubmittedVersionView(BaseModel):
    """The version that a submitted model has become; `new` is false where it was one already."""

    loop: str
    version: str
    line: str
    offset: int
    run: str
    sha256: str
    size: int
    format: str
    signature: list[str]
    inputs: list[str]
    outputs: list[str]
    opset: int | None
    metrics: dict[str, float]
    data_set: DataSet | None
    new: bool


class RolloutPlan(BaseModel):
    """Predictions in shadow, then shares of the traffic for `step` outcomes each."""

    shadow: int
    shares: list[float]
    step: int


class RolloutView(BaseModel):
    """Where the rollout stands, and what is ahead of it."""

    loop: str
    stage: str
    share: float
    candidate: str | None
    champion: str
    approval: PendingApproval | None = Field(description="the approval that the candidate waits for")
    winner: str | None
    run: str | None
    urgent: bool
    pinned: bool
    since_outcomes: int | None
    held_back: dict[str, str] = Field(description="by line, what it is required to meet before it passes the gate")
    plan: RolloutPlan


class Decision(BaseModel):
    """A decision as it is on the topic: a CloudEvent whose `data` depends on its type."""

    model_config = ConfigDict(extra="allow")

    specversion: str
    id: str
    source: str
    type: str
    time: str
    subject: str
    loop: str
    sequence: int
    data: dict[str, Any]


class History(BaseModel):
    """Every decision about a loop, newest last."""

    loop: str
    decisions: list[Decision]


class Deleted(BaseModel):
    """A loop that was deleted, and when."""

    loop: str
    deleted: str | None
