"""What a lineage backend is told of training: that a run begins, and how it ended."""

from __future__ import annotations

from everloop_registry.domain.openlineage import data_sets
from everloop_registry.domain.openlineage.event import Facets, LineageSource, Part, RunEvent
from everloop_registry.domain.openlineage.names import OUTCOMES
from everloop_schemas.envelope import utc_time
from everloop_schemas.lineage_facets import LineageOffsets, LineageRun, LineageRunEnd
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import RunFinished, RunRequested

SCHEDULE = "schedule/"
"""What the key of a run begins with that a schedule requested: after it comes its time, in seconds."""
MAX_SOURCE_CHARACTERS = 100_000
"""Of a loop's file that is told; a longer one is left out."""


def begin_training(source: LineageSource, event: RunRequested, partition: int, spec: LoopSpec | None) -> RunEvent:
    """START: why the run was requested, which outcomes it learns, and the loop's file as it was."""
    data = event.data
    about = LineageRun(
        loop=event.loop,
        revision=event.revision,
        run=data.run,
        line=data.line,
        trigger=data.trigger,
        reason=data.reason,
        causationid=event.causationid,
        requested_by=event.actor,
        start_offset=data.start_offset,
        requested_offset=data.requested_offset,
        model=data.model.model_dump(mode="json", by_alias=True, exclude_none=True),
    )
    return source.event(
        "START",
        event.time,
        event.loop,
        "train",
        source.run_id(event.loop, "train", data.run),
        run_facets=source.own(about) | _nominal_time(source, event),
        job_facets=_loop_file(source, spec) | _owner(source, event.team),
        inputs=_learned(source, event, partition, spec),
    )


def end_training(source: LineageSource, event: RunFinished, partition: int) -> RunEvent:
    """COMPLETE or FAIL: what came of it, and the data set with its digest where there is one."""
    data = event.data
    about = LineageRunEnd(
        state=data.state,
        offset=data.offset,
        outcomes=data.outcomes,
        seconds=data.seconds,
        trainer=data.trainer,
        metrics=data.metrics,
    )
    facets = source.own(about)
    if data.state == "failed":
        facets |= error(source, data.reason)
    artifact = data.artifact
    return source.event(
        "FAIL" if data.state == "failed" else "COMPLETE",
        event.time,
        event.loop,
        "train",
        source.run_id(event.loop, "train", data.run),
        run_facets=facets,
        inputs=[data_sets.named_outcomes(source, data.data_set, partition)] if data.data_set else [],
        outputs=[data_sets.stored_artifact(source, event.loop, data.line, artifact)] if artifact else [],
    )


def error(source: LineageSource, reason: str | None) -> Facets:
    """Why a run failed."""
    return source.facet("errorMessage", message=reason or "no reason given", programmingLanguage="PYTHON")


def _learned(source: LineageSource, event: RunRequested, partition: int, spec: LoopSpec | None) -> list[Part]:
    data = event.data
    if data.data_set is not None:
        return [data_sets.named_outcomes(source, data.data_set, partition, spec=spec)]
    if data.artifact is not None:
        return []  # it was trained elsewhere, and learns nothing
    start, revision, topic = data.start_offset, event.revision, OUTCOMES.name
    offsets = LineageOffsets(loop=event.loop, topic=topic, partition=partition, start=start, revision=revision)
    return [data_sets.outcomes(source, offsets, (), spec)]


def _nominal_time(source: LineageSource, event: RunRequested) -> Facets:
    seconds = event.data.key.removeprefix(SCHEDULE)
    if event.data.trigger != "schedule" or not (seconds.isascii() and seconds.isdecimal()):
        return {}
    return source.facet("nominalTime", nominalStartTime=utc_time(int(seconds)).isoformat())


def _loop_file(source: LineageSource, spec: LoopSpec | None) -> Facets:
    text = spec.model_dump_json(by_alias=True, exclude_defaults=True, indent=1) if spec else ""
    if not text or len(text) > MAX_SOURCE_CHARACTERS:
        return {}
    return source.facet("sourceCode", language="json", sourceCode=text)


def _owner(source: LineageSource, team: str | None) -> Facets:
    return source.facet("ownership", owners=[{"name": f"team:{team}", "type": "OWNER"}]) if team else {}
