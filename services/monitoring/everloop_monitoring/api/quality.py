"""The endpoint of quality, and what it answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.quality.view import build_quality
from everloop_monitoring.domain.quality.watch import QualityWatch
from everloop_monitoring.ports import MonitoringReader

Metrics = dict[str, float | None]


class ConfusionMatrix(BaseModel):
    """Outcomes by class of the label (rows) and of the prediction (columns)."""

    classes: list[str]
    counts: list[list[int]]


class ReliabilityBinAnswer(BaseModel):
    """Predictions whose probability lies between two bounds, and how often it was so."""

    model_config = ConfigDict(populate_by_name=True)

    from_: float = Field(alias="from")
    to: float
    n: int
    predicted: float
    observed: float


class GroupQuality(BaseModel):
    """A group's metrics over all its outcomes, and over those among the last ones of the loop; null where undefined."""

    by: str = Field(description="served, role, line, version or slice")
    name: str
    slice: str | None = Field(None, description="the field, of a slice")
    outcomes: int
    rolling_outcomes: int
    whole: Metrics
    rolling: Metrics
    interval: dict[str, tuple[float, float]] = Field(description="95 % confidence sequences of metrics that are means")
    confusion: ConfusionMatrix | None
    reliability: list[ReliabilityBinAnswer]


class LabelDelays(BaseModel):
    """Quantiles of the time from a prediction to its first label, in seconds."""

    p50: float | None
    p90: float | None
    p99: float | None


class LabelCoverage(BaseModel):
    """How many predictions have a label, how long labels take, and how many were changed."""

    predictions: int
    labelled: int
    coverage: float | None
    delay_s: LabelDelays
    corrected: int


class EstimatedQuality(BaseModel):
    """What a metric is expected to be on the last predictions, and how far earlier estimates were from the labels."""

    metric: str
    value: float
    error: float | None
    outcomes: int = Field(description="on which the error rests")
    predictions: int = Field(description="that are estimated")


class Quality(BaseModel):
    """The quality of a loop's predictions, by group."""

    loop: str
    metric: str
    task: str
    window: int
    metrics: list[str]
    since: int | None = Field(description="the offset of the first outcome that is counted")
    groups: list[GroupQuality]
    baselines: dict[str, Metrics]
    labels: LabelCoverage
    estimated: EstimatedQuality | None


def quality_router(reader: MonitoringReader, loops: KnownLoops) -> APIRouter:
    """The route; it answers 404 for a loop that is not applied."""
    api = APIRouter()

    @api.get("/v1/loops/{loop}/quality", response_model=Quality)
    async def get_quality(loop: str) -> JSONResponse:
        """Every metric by version, line, role and slice, and what it is expected to be before labels come."""
        return JSONResponse(await _answer(loop))

    async def _answer(loop: str) -> dict[str, Any]:
        spec = loops.require(loop).data.spec
        watch = await reader.watch(loop, QualityWatch) if QualityWatch.is_on(spec) else None
        state, totals = await reader.evaluation_state(loop), await reader.totals(loop)
        return build_quality(loop, spec, watch, totals.get("prediction", 0), state.scored if state else 0)

    return api
