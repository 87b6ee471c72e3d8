"""Says where a version came from: its registration, run and data set, and what was decided about it until a moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from everloop.errors import EverloopHTTPError
from everloop.explaining.record import NotExplained
from everloop.lineage.collect import Ask
from everloop.rebuilding.rebuild import data_set_of
from everloop.wire import loop_path
from everloop_learning.version import line_of

OF_ONE_VERSION = ("version_registered", "model_refreshed")
"""Decisions about one version and not about its line."""
LARGE = frozenset({"model", "spec"})
RUN = ("run", "trigger", "reason", "requested", "finished", "state", "actor", "causationid", "trainer")


@dataclass(frozen=True)
class VersionOrigin:
    """A version's registration, the run that made it (None where training knows it no more), and its data set."""

    registered: Mapping[str, Any]
    run: Mapping[str, Any] | None
    data_set: str
    decisions: Sequence[Mapping[str, Any]]


def find_version_origin(
    loop: str, version: str, moment: datetime, decisions: Sequence[Mapping[str, Any]], ask: Ask
) -> VersionOrigin:
    """Where a version came from that answered at a moment; raises NotExplained where it was not registered then."""
    query = urlencode({"as_of": moment.isoformat()})
    versions = ask("registry", f"{loop_path(loop, 'versions')}?{query}")["versions"]
    found = next((one for one in versions if one["version"] == version), None)
    if found is None:
        raise NotExplained(f"the registry had no version {version!r:.200} of {loop} when it answered")
    runs: Sequence[Mapping[str, Any]] = ()
    with suppress(EverloopHTTPError):  # the loop was deleted
        runs = ask("training", loop_path(loop, "runs"))["runs"]
    run = next(({key: one.get(key) for key in RUN} for one in runs if one["run"] == found["run"]), None)
    about = list(decisions_about(version, decisions))
    return VersionOrigin(found, run, data_set_of(loop, found["manifest"]), about)


def decisions_about(version: str, decisions: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """What was decided about a version, and about its line: gate, rollout, promotion, rollback; newest last."""
    line = line_of(version)
    for decision in decisions:
        kind, data = decision["type"].split(".")[1], decision["data"]
        names = [decision["subject"], *(data.get(key) for key in ("line", "version", "candidate"))]
        is_of_line = kind not in OF_ONE_VERSION and line in [line_of(name) for name in names if name]
        if version in names or is_of_line:
            known = ("sequence", "time", "subject", "actor", "actor_kind", "actor_source", "causationid")
            about = {key: decision.get(key) for key in known}
            yield {**about, "decision": kind, "data": {k: v for k, v in data.items() if k not in LARGE}}
