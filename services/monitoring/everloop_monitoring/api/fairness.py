"""The endpoint of groups: what each line did for them, and the differences between them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from everloop_learning.loops import KnownLoops
from everloop_metrics.fairness import (
    Estimate,
    GroupSums,
    calibration_error,
    false_positive_rate,
    measure,
    positive_rate,
    true_positive_rate,
)
from everloop_monitoring.domain.fairness import FairnessWatch
from everloop_monitoring.ports import MonitoringReader
from everloop_schemas.conditions import FAIRNESS_MEASURES


class Estimated(BaseModel):
    """A value and its interval of 95 %; null where there are too few outcomes."""

    value: float | None
    low: float | None
    high: float | None
    outcomes: int


class FairnessGroup(BaseModel):
    """What a line did for one group."""

    group: str
    outcomes: int
    positive_rate: Estimated
    true_positive_rate: Estimated
    false_positive_rate: Estimated
    calibration_error: Estimated


class FairnessField(BaseModel):
    """The groups of a field as one line predicted for them, with the largest differences between two of them."""

    field: str
    version: str = Field(description="the line's latest")
    line: str
    champion: bool
    outcomes: int
    groups: list[FairnessGroup]
    measures: dict[str, Estimated]
    enough: bool = Field(description="whether two groups have 30 outcomes with either label")


class Fairness(BaseModel):
    """The groups of each field of `monitor.fairness`, over the last 1,800 to 2,000 outcomes."""

    loop: str
    fields: list[FairnessField]


def fairness_router(reader: MonitoringReader, loops: KnownLoops) -> APIRouter:
    """The route; it answers 404 for a loop that is not applied."""
    api = APIRouter()

    @api.get("/v1/loops/{loop}/fairness", response_model=Fairness)
    async def get_fairness(loop: str) -> JSONResponse:
        """Whom each line treats worse."""
        loops.require(loop)
        watch = await reader.watch(loop, FairnessWatch)
        fields = [] if watch is None else [_render(watch, name, line) for name, line in _pairs(watch)]
        return JSONResponse({"loop": loop, "fields": fields})

    return api


def _pairs(watch: FairnessWatch) -> list[tuple[str, str]]:
    lines = sorted(watch.window.lines()[: watch.window.max_lines], key=lambda line: line != watch.champion)
    return [(name, line) for name in watch.window.fields for line in lines]


def _render(watch: FairnessWatch, name: str, line: str) -> dict[str, Any]:
    groups = watch.groups_of(line, name)
    measures = {kind: measure(kind, groups) for kind in FAIRNESS_MEASURES}
    enough = all(measures[kind].value is not None for kind in ("demographic_parity", "equalised_odds"))
    return {
        "field": name,
        "version": watch.versions.get(line, line),
        "line": line,
        "champion": line == watch.champion,
        "outcomes": sum(sums.outcomes for sums in groups.values()),
        "groups": [
            _render_group(group, sums) for group, sums in sorted(groups.items(), key=lambda of: -of[1].outcomes)
        ],
        "measures": {kind: estimate._asdict() for kind, estimate in measures.items()},
        "enough": enough,
    }


def _render_group(group: str, sums: GroupSums) -> dict[str, Any]:
    estimates: dict[str, Estimate] = {
        "positive_rate": positive_rate(sums),
        "true_positive_rate": true_positive_rate(sums),
        "false_positive_rate": false_positive_rate(sums),
        "calibration_error": calibration_error(sums),
    }
    rendered = {name: estimate._asdict() for name, estimate in estimates.items()}
    return {"group": group, "outcomes": sums.outcomes, **rendered}
