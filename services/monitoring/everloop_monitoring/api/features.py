"""The endpoint for features: their quality and their drift, before labels come."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.data_drift.report import build_features
from everloop_monitoring.domain.data_drift.watch import DriftWatch
from everloop_monitoring.domain.expectations import ExpectationWatch
from everloop_monitoring.ports import MonitoringReader


class Reference(BaseModel):
    """What features are compared with: so many predictions from a time on, under a version."""

    version: str
    outcomes: int
    since: str


class Histogram(BaseModel):
    """Counts by bin, of a number by the upper ends of its bins, of a category by its values."""

    missing: int
    other: int
    counts: list[int]
    edges: list[float] | None = None
    categories: list[str] | None = None


class WatchedColumn(BaseModel):
    """A feature, the predictions or the labels: shares of the latest window, and how far it is from the reference."""

    name: str
    type: str
    kind: str
    missing: float | None
    out_of_range: float | None
    unknown: float | None
    distance: float | None
    detector: str
    p_value: float | None
    drifted: bool
    since: str | None
    before: Histogram
    after: Histogram
    constant: bool
    stale: bool


class VolumeOfHour(BaseModel):
    """The predictions of the present hour, and how many are usual for this hour of the week, or else of the day."""

    hour: str
    predictions: int
    usual: float | None


class CheckedExpectation(BaseModel):
    """What is expected of a field: the share of the latest observations that meet it, and the share that must.

    With `then: dead_letter` those that do not were refused by ingest, or came by REST.
    """

    field: str
    what: str
    share: float | None
    required: float
    then: str
    holds: bool
    n: int


class Features(BaseModel):
    """What a loop's features, predictions and labels were and are; empty where the loop's spec watches none."""

    loop: str
    reference: Reference | None
    window: int = Field(description="predictions that are compared")
    features: list[WatchedColumn]
    personal: list[str] = Field(description="features that follow from personal fields: sealed, and not watched")
    slices: list[str] = Field(description="those in which the drift of the features is concentrated, as field=value")
    volume: VolumeOfHour | None
    duplicates: int = Field(description="predictions that came again")
    late: int = Field(description="predictions over a minute older than the newest, which are not compared")
    expectations: list[CheckedExpectation] = Field(description="of what was accepted or refused")
    drifts: list[dict[str, Any]] = Field(description="the last ones, oldest first, as in drift_detected")


def features_router(reader: MonitoringReader, loops: KnownLoops) -> APIRouter:
    """The route; it answers 404 for a loop that is not applied."""
    api = APIRouter()

    @api.get("/v1/loops/{loop}/features", response_model=Features)
    async def get_features(loop: str) -> JSONResponse:
        """Each feature's quality and drift, those of the predictions and those of the labels."""
        spec = loops.require(loop).data.spec
        drift = await reader.watch(loop, DriftWatch) if DriftWatch.is_on(spec) else None
        expected = await reader.watch(loop, ExpectationWatch) if ExpectationWatch.is_on(spec) else None
        return JSONResponse(build_features(loop, drift, expected, spec.personal_features))

    return api
