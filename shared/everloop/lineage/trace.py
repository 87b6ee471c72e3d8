"""Traces a prediction, a version, a run or a drift of a loop both ways: where it came from, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from everloop.errors import EverloopError, EverloopHTTPError
from everloop.lineage.collect import Ask
from everloop.wire import loop_path, query

BASELINE = "0"
LATEST = 200
"""Of a loop's predictions, monitoring keeps so many."""
ENTRIES = 1_000
"""Of a loop's drifts and timeline, among which the drift behind a run is looked for."""


class NotTraced(EverloopError):
    """What was asked about is not known; the message says where it was looked for."""


@dataclass(frozen=True)
class Trace:
    """What was found: `prediction` where one was asked about, the runs behind it or that came of it, and by id drifts.

    `made` is, by version, how many predictions it made and its latest; it is there where a version was asked about.
    """

    loop: str
    prediction: Mapping[str, Any] | None
    version: str | None
    runs: Sequence[Mapping[str, Any]]
    drifts: Mapping[str, Mapping[str, Any]]
    made: Mapping[str, Mapping[str, Any]]


def trace_prediction(loop: str, prediction: Mapping[str, Any], ask: Ask) -> Trace:
    """From a prediction, as `find_prediction` answers it, to its version, and on; raises EverloopError."""
    version = prediction["version"]
    runs = [] if version == BASELINE else _runs(loop, {"version": version}, ask)
    return Trace(loop, prediction, version, runs, _drifts(loop, runs, ask), {})


def trace_version(loop: str, version: str, ask: Ask, role: str | None = None, limit: int = 10) -> Trace:
    """From a version back to its run, and on to its predictions; raises EverloopError."""
    runs = [] if version == BASELINE else _runs(loop, {"version": version}, ask)
    asked = query(limit=limit, role=role or None)
    path = f"{loop_path(loop, 'versions')}/{quote(version, safe='')}/predictions{asked}"
    return Trace(loop, None, version, runs, _drifts(loop, runs, ask), {version: ask("monitoring", path)})


def trace_run(loop: str, run: str, ask: Ask, before: int | None = None, limit: int = 50) -> Trace:
    """A run with the event behind it and its versions, newest first, in pages; raises EverloopError."""
    runs = _runs(loop, {"run": run, "limit": limit, "before": before or None}, ask)
    return Trace(loop, None, None, runs, _drifts(loop, runs, ask), {})


def trace_drift(loop: str, drift: str, ask: Ask, limit: int = 50) -> Trace:
    """From a drift to the runs that it led to, their versions and the decisions about them; raises EverloopError."""
    runs, drifts = _runs(loop, {"drift": drift, "limit": limit}, ask), _known_drifts(loop, ask)
    if not runs and drift not in drifts:
        raise NotTraced(
            f"{loop} has no drift {drift!r:.200}, and no run that it led to; monitoring lists them at /drifts"
        )
    return Trace(loop, None, None, runs, {drift: drifts[drift]} if drift in drifts else {}, {})


def find_prediction(loop: str, prediction: str, ask: Ask) -> Mapping[str, Any] | None:
    """A prediction with its version and role, from serving's memory or monitoring's latest; None where neither has it.

    Raises EverloopError.
    """
    with suppress(EverloopHTTPError):
        found: Mapping[str, Any] = ask("serving", f"{loop_path(loop, 'predictions')}/{quote(prediction, safe='')}")
        return found
    latest = ask("monitoring", f"{loop_path(loop, 'predictions')}?limit={LATEST}")
    return next((one for one in latest if one["id"] == prediction), None)


def _runs(loop: str, asked: Mapping[str, Any], ask: Ask) -> list[Mapping[str, Any]]:
    return list(ask("registry", loop_path(loop, "lineage") + query(**asked))["runs"])


def _drifts(loop: str, runs: Sequence[Mapping[str, Any]], ask: Ask) -> dict[str, Mapping[str, Any]]:
    """Of the events behind runs those that are drifts."""
    behind = {run["causationid"] for run in runs if run["trigger"] == "drift" and run["causationid"]}
    known = _known_drifts(loop, ask) if behind else {}
    return {id: known[id] for id in sorted(behind & known.keys())}


def _known_drifts(loop: str, ask: Ask) -> dict[str, Mapping[str, Any]]:
    listed = ask("monitoring", f"{loop_path(loop, 'drifts')}?limit={ENTRIES}")
    others = ask("monitoring", f"{loop_path(loop, 'timeline')}?limit={ENTRIES}")
    return {entry["id"]: entry for entry in (*listed, *others) if entry["kind"] in ("drift", "data_drift")}


def lines_of(trace: Trace) -> Iterator[tuple[int, str]]:
    """The trace as lines with their depth, for a tree."""
    depth = 0
    if (made := trace.prediction) is not None:
        yield (
            0,
            f"prediction {made['id']} of {trace.loop}: {made['prediction']!r}, by {made['version']} as {made['role']}",
        )
        depth = 1
    if trace.version == BASELINE:
        yield depth, "version 0, the baseline: it has no run, and answers with the most frequent label or the mean"
    if not trace.runs and trace.drifts:
        for id, drift in trace.drifts.items():
            yield depth, f"drift {id} at {drift['time'][:19]}: {drift['what']}"
        yield depth + 1, "no run came of it"
    for run in trace.runs:
        yield from _lines_of_run(trace, run, depth)
    for version, predictions in trace.made.items():
        yield from _lines_of_predictions(version, predictions, depth)


def _lines_of_run(trace: Trace, run: Mapping[str, Any], depth: int) -> Iterator[tuple[int, str]]:
    by = f", asked for by {run['requested_by']}" if run["requested_by"] else ""
    yield (
        depth,
        f"run {run['run']} of {run['line']}: {run['trigger'] or 'unknown trigger'}{by}, {run['state'] or 'unknown'}",
    )
    if (drift := trace.drifts.get(run["causationid"] or "")) is not None:
        yield depth + 1, f"drift {run['causationid']} at {drift['time'][:19]}: {drift['what']}"
    elif run["causationid"]:
        yield depth + 1, f"event {run['causationid']}: {run['reason'] or ''}".rstrip(": ")
    for name in run["data_sets"]:
        yield depth + 1, f"data set {name}"
    for version in run["versions"]:
        slot = f", {version['slot']}" if version["slot"] else ""
        yield (
            depth + 1,
            f"version {version['version']}{slot}, registered {version['registered'][:19]} ({version['reason']})",
        )
        if (learned := version["data_set"]) is not None:
            rows = f", {learned['rows']:,} rows" if learned["rows"] is not None else ""
            yield depth + 2, f"data set {learned['name']}{rows}"
    if run["next"] is not None:
        yield depth + 1, f"older versions: --run {run['run']} --before {run['next']}"
    for one in run["decisions"]:
        why = f": {one['reason']}" if one["reason"] else ""
        what = one["decision"].replace("_", " ")
        yield (
            depth + 1,
            f"decision {one['sequence']} at {one['time'][:19]}, {what} of {one['subject']} by {one['actor']}{why}",
        )


def _lines_of_predictions(version: str, found: Mapping[str, Any], depth: int) -> Iterator[tuple[int, str]]:
    if not found["made"]:
        yield depth, f"{version} made no prediction that is counted"
    for one in found["made"]:
        when = f"from {one['first'][:19]} to {one['last'][:19]}"
        yield depth, f"{one['predictions']:,} predictions by {version} as {one['role']}, {when}"
    for one in found["latest"]:
        yield depth + 1, f"prediction {one['id']} at {one['time'][:19]}: {one['prediction']!r}, as {one['role']}"
