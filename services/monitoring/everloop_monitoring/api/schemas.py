"""What the endpoints answer, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from everloop_schemas.registry import PendingApproval
from everloop_shared.http.schemas import Revision


class LoopSummary(Revision):
    """A loop in short."""

    task: str
    metric: str
    watched: list[str] = Field(description="what the spec turns on, such as drift, quality, slices, fairness")
    may: list[str] = Field(description="which actions of the console whoever asks may do")


class LoopList(BaseModel):
    """Every loop, in short."""

    loops: list[LoopSummary]


class Substitute(BaseModel):
    """What an instance serves that cannot load the champion, and why."""

    version: str
    reason: str


class Champion(BaseModel):
    """The version that serves, and since when; `serving` names the instances that cannot load it."""

    version: str
    since: str
    serving: dict[str, Substitute]


class Rollout(BaseModel):
    """Where the rollout stands."""

    stage: str
    share: float
    candidate: str | None
    approval: PendingApproval | None


class Scores(BaseModel):
    """Prequential scores of what was served, in all and lately, beside the baselines; null where undefined."""

    served: float | None
    rolling: float | None
    no_change: float | None
    majority: float | None


class MetricScores(Scores):
    """The same by the metric that the spec names."""

    name: str


class Status(BaseModel):
    """The counts of distinct ids, the version that serves, and its scores, which are 0 before the first label."""

    team: str | None = Field(description="the team that the loop belongs to")
    events: int
    predictions: int
    outcomes: int
    dead_letters: int
    champion: Champion
    rollout: Rollout
    accuracy: Scores
    metric: MetricScores
    drifts: int
    runs: int
    versions: int
    promotions: int
    rollbacks: int


class Contradictions(BaseModel):
    """Labels that contradict earlier ones."""

    changed: int
    disputed: int
    over_share: int
    rate: float


class LineScores(BaseModel):
    """A line and its scores, on all its predictions and on those that were served; null where there are none."""

    line: str
    version: str
    outcomes: int
    served: int
    score: float | None
    score_served: float | None
    rolling: float | None
    first: str | None
    last: str | None


class Evaluation(Scores):
    """Scores of what was served beside the baselines, by the loop's metric, and of each line by `line_metric`."""

    loop: str
    metric: str
    outcomes: int
    scored: int
    contradictions: Contradictions
    line_metric: str
    lines: list[LineScores]


class Entry(BaseModel):
    """An entry of the timeline: what happened, and why; `data` are details for programs."""

    id: str
    kind: str
    time: str
    what: str
    why: str
    data: dict[str, Any]


class AlertEntry(Entry):
    """An alert: what it is named, where it stands, what it rests on, and what is done; null in entries from before."""

    alert: str | None
    state: str | None
    since: str | None
    evidence: list[str]
    cause: str | None
    doing: str | None
    runbook: str | None


class SilenceView(BaseModel):
    """Until when which alerts of a loop are not told to receivers, and why; null is any kind or alert."""

    id: str
    loop: str
    kind: str | None
    alert: str | None
    until: str
    reason: str
    actor: str


class SilenceEnded(BaseModel):
    """The id of a silence that was ended."""

    loop: str
    ended: str


class SilenceList(BaseModel):
    """The silences of a loop."""

    silences: list[SilenceView]


class Point(BaseModel):
    """A point of the curves, by outcomes."""

    model_config = ConfigDict(extra="allow")

    outcomes: int = Field(description="counted when the point was drawn")
