"""The endpoints for what is only shown: the latest predictions, and what the models of versions depend on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.shown import MAX_IMPORTANCES, MAX_PREDICTIONS, labelled
from everloop_monitoring.ports import MonitoringReader
from everloop_schemas.serving import Role
from everloop_shared.http.schemas import Value

After = Annotated[int, Query(ge=0, le=MAX_PREDICTIONS, description="`next` of the page before")]
HowMany = Annotated[int, Query(ge=1, le=MAX_PREDICTIONS, description="how many, counted from the newest")]


class ShownExplanation(BaseModel):
    """What each feature contributed; base and contributions sum to the model's score."""

    method: Literal["linear", "tree", "permutation"]
    of: str | None = None
    scale: Literal["probability", "log_odds", "margin", "value"] | None = None
    base: float
    contributions: dict[str, float]


class LatestPrediction(BaseModel):
    """A prediction with its label, once that is known; `correct` is for classes only."""

    id: str
    time: str
    entity: str
    features: dict[str, Value | None]
    personal: list[str] = Field(description="features that are sealed, and not shown")
    prediction: Value
    probabilities: dict[str, float] | None
    version: str
    role: str
    label: Value | None
    correct: bool | None
    anomaly: float | None
    explanation: ShownExplanation | None


class MadeInRole(BaseModel):
    """How many predictions were made in a role, and when the first one and the last one was."""

    role: str
    predictions: int = Field(description="records; one that serving publishes twice after a crash counts twice")
    first: str
    last: str


class VersionPredictions(BaseModel):
    """What a version predicted: how many of it, and those of the loop's latest predictions that are its."""

    loop: str
    version: str
    made: list[MadeInRole] = Field(description="by role; none where it is not counted any more, or made none")
    latest: list[LatestPrediction] = Field(description="newest first")
    next: int | None = Field(description="`after` of the next page; none on the last one")


class VersionImportance(BaseModel):
    """By feature, how much a version's predictions depend on it, the largest first."""

    version: str
    importance: dict[str, float]


class Importances(BaseModel):
    """The importance of each version for which it was found, the newest first."""

    loop: str
    versions: list[VersionImportance]


def shown_router(reader: MonitoringReader, loops: KnownLoops) -> APIRouter:
    """The routes; each answers 404 for a loop that is not applied."""
    api = APIRouter()

    @api.get("/v1/loops/{loop}/predictions", response_model=list[LatestPrediction])
    async def list_predictions(loop: str, limit: HowMany = 50) -> JSONResponse:
        """The latest predictions, newest first; of a busy loop a sample of them."""
        spec = loops.require(loop).data.spec
        rows: list[dict[str, Any]] = [
            labelled(row, label, spec) for row, label in await reader.latest_predictions(loop, limit)
        ]
        return JSONResponse(rows)

    @api.get("/v1/loops/{loop}/versions/{version}/predictions", response_model=VersionPredictions)
    async def get_version_predictions(
        loop: str, version: str, role: Role | None = None, after: After = 0, limit: HowMany = 50
    ) -> JSONResponse:
        """How many predictions a version made, by role, and the latest of them, in pages."""
        spec = loops.require(loop).data.spec
        rows = [
            (row, label)
            for row, label in await reader.latest_predictions(loop, MAX_PREDICTIONS)
            if row["version"] == version and role in (None, row["role"])
        ]
        made = [one for one in await reader.made_by(loop, version) if role in (None, one["role"])]
        page = [labelled(row, label, spec) for row, label in rows[after : after + limit]]
        more = after + limit if len(rows) > after + limit else None
        return JSONResponse({"loop": loop, "version": version, "made": made, "latest": page, "next": more})

    @api.get("/v1/loops/{loop}/importance", response_model=Importances)
    async def get_importance(loop: str) -> JSONResponse:
        """How much the predictions of each version depend on each feature."""
        loops.require(loop)
        found = await reader.importances(loop, MAX_IMPORTANCES)
        versions = [{"version": version, "importance": importance} for version, importance in found]
        return JSONResponse({"loop": loop, "versions": versions})

    return api
