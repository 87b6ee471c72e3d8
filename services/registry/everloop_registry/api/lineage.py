"""Where a version came from, and what came of a run or a drift, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from everloop_registry.api.queries import find_loop
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.openlineage.data_sets import learned
from everloop_registry.domain.origins import MAX_DECISIONS, MAX_RUNS, MAX_VERSIONS, OriginVersion, RunOrigin
from everloop_registry.errors import LineageRejected, RunNotFound, VersionNotFound
from everloop_registry.ports import LoopReader, OriginReader
from everloop_schemas.approvals import ApprovalRequested, CandidateApproved
from everloop_schemas.registry import Decided
from everloop_shared.errors import FieldError

Name = Annotated[str | None, Query(min_length=1, max_length=256)]
HowMany = Annotated[int, Query(ge=1, le=MAX_VERSIONS, description="versions of a run, counted from the newest")]
Before = Annotated[int | None, Query(ge=1, description="`next` of the page before; goes with `run`")]


class NamedDataSet(BaseModel):
    """A range of the loop's outcomes, both offsets included, by its name; digest and rows once it was read."""

    name: str
    start: int
    end: int
    revision: int
    digest: str | None
    rows: int | None


class LineageVersionView(BaseModel):
    """A version: what it has learned, its artifact, and whether it serves."""

    version: str
    number: int
    registered: str
    reason: str
    data_set: NamedDataSet | None = Field(description="none for a model from elsewhere that names none")
    uri: str
    sha256: str
    size: int
    format: str
    metrics: dict[str, float]
    slot: str | None = Field(description="`champion` or `candidate` where it is one now")
    kept: bool


class LineageDecisionView(BaseModel):
    """A decision about a version or its line."""

    sequence: int
    time: str
    decision: str
    subject: str
    actor: str
    causationid: str | None
    reason: str | None
    stage: str | None
    share: float | None


class LineageRunView(BaseModel):
    """A run of training, with the event behind it, its versions, and what was decided about its line."""

    run: str
    line: str
    trigger: str | None
    reason: str | None
    causationid: str | None = Field(description="the id of the event behind it: where a drift is the trigger, its id")
    requested_by: str | None
    requested: str | None
    state: str | None
    data_sets: list[str]
    versions: list[LineageVersionView] = Field(description="newest first")
    next: int | None = Field(description="`before` of the next page of versions; none on the last one")
    decisions: list[LineageDecisionView] = Field(description=f"the last {MAX_DECISIONS}, oldest first")
    approvals: list[LineageDecisionView] = Field(
        description="those of the decisions that ask for approvals, or give them"
    )


class LineageView(BaseModel):
    """What was asked about, and the runs that led to it or came of it."""

    loop: str
    version: str | None
    run: str | None
    drift: str | None
    runs: list[LineageRunView] = Field(description=f"oldest first, {MAX_RUNS} at most")


def add_lineage(routes: APIRouter, reader: LoopReader, origins: OriginReader) -> None:
    """Add the route."""

    @routes.get("/{loop}/lineage", response_model=LineageView)
    async def get_lineage(
        loop: str,
        version: Name = None,
        run: Name = None,
        drift: Name = None,
        before: Before = None,
        limit: HowMany = 50,
    ) -> JSONResponse:
        """The run behind a version; the versions of a run; or the runs that a drift led to, with their versions."""
        _check(version, run, drift, before)
        known = await find_loop(reader, loop)
        if version is not None:
            found = await origins.of_version(loop, version)
            if found is None:
                raise VersionNotFound(f"{loop} has no version {version!r:.200}")
            runs = [found]
        elif run is not None:
            found = await origins.of_run(loop, run, before, limit)
            if found is None:
                raise RunNotFound(f"{loop} has no run {run!r:.200}")
            runs = [found]
        else:
            runs = await origins.of_cause(loop, drift or "", limit)
        asked = {"loop": loop, "version": version, "run": run, "drift": drift}
        return JSONResponse({**asked, "runs": [_run_view(known, one) for one in runs]})


def _check(version: str | None, run: str | None, drift: str | None, before: int | None) -> None:
    if sum(one is not None for one in (version, run, drift)) != 1:
        wrong = FieldError("version", "give one of version, run and drift, such as ?version=logistic-0@499")
    elif before is not None and run is None:
        wrong = FieldError("before", "goes with run")
    else:
        return
    raise LineageRejected(f"{wrong.field}: {wrong.error}", [wrong])


def _run_view(loop: Loop, origin: RunOrigin) -> dict[str, Any]:
    decided = [_decision_view(decision) for decision in origin.decisions]
    slots, kept = loop.slots, set(loop.kept)
    about_approvals = [isinstance(d, ApprovalRequested | CandidateApproved) for d in origin.decisions]
    return {
        **{name: getattr(origin, name) for name in ("run", "line", "trigger", "reason", "causationid", "requested_by")},
        "requested": origin.requested.isoformat() if origin.requested else None,
        "state": origin.state,
        "data_sets": list(origin.data_sets),
        "versions": [_version_view(loop.loop, version, slots, kept) for version in origin.versions],
        "next": origin.versions[-1].number if origin.more else None,
        "decisions": decided,
        "approvals": [view for view, is_one in zip(decided, about_approvals, strict=True) if is_one],
    }


def _version_view(loop: str, version: OriginVersion, slots: Mapping[str, str], kept: Set[str]) -> dict[str, Any]:
    model, manifest = version.model, version.model.manifest
    data_set = learned(loop, manifest)
    return {
        "version": model.version,
        "number": version.number,
        "registered": version.registered.isoformat(),
        "reason": model.reason,
        "data_set": {"name": data_set.name, **data_set.model_dump(exclude={"loop"})} if data_set else None,
        **{name: getattr(model, name) for name in ("uri", "sha256", "size")},
        "format": manifest.format,
        "metrics": manifest.metrics,
        "slot": slots.get(model.version),
        "kept": model.version in kept,
    }


def _decision_view(decision: Decided) -> dict[str, Any]:
    data = decision.data
    return {
        "sequence": decision.sequence,
        "time": decision.time.isoformat(),
        "decision": decision.type.split(".")[1],
        "subject": decision.subject,
        "actor": decision.actor or "anonymous",
        "causationid": decision.causationid,
        **{name: getattr(data, name, None) for name in ("reason", "stage", "share")},
    }
