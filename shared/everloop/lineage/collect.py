"""Collects the lineage of a loop from what training and registry answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from everloop.lineage.graph import DataSet, Lineage, Run, Version
from everloop.wire import loop_path

Ask = Callable[[str, str], Any]
"""The JSON that a service answers at a path. Raises EverloopError."""
LEARNS_EACH_OUTCOME = "river"
"""The format of models that learn; the others are trained on a data set, or come from elsewhere."""
KNOWN = (
    "trigger",
    "reason",
    "start_offset",
    "requested",
    "finished",
    "outcomes",
    "failure",
    "seconds",
    "trainer",
)


def collect(loop: str, ask: Ask) -> Lineage:
    """The lineage as it is now; raises EverloopError."""
    about = ask("registry", loop_path(loop))
    listed = ask("training", loop_path(loop, "runs"))["runs"]
    versions = [_version(loop, one) for one in ask("registry", loop_path(loop, "versions"))["versions"]]
    return Lineage(loop, about["spec"]["task"], about["revision"], tuple(_runs(listed, versions)))


def _runs(listed: Iterable[Mapping[str, Any]], versions: Iterable[tuple[Version, Mapping[str, Any]]]) -> Iterable[Run]:
    of_run, models = defaultdict[str, list[Version]](list), dict[str, Mapping[str, Any]]()
    for version, model in versions:
        of_run[version.run].append(version)
        models[version.run] = model
    known = {run["run"]: run for run in listed}
    for name in models.keys() - known.keys():
        line = of_run[name][0].line
        yield Run(name, line, "trained", models[name], versions=tuple(of_run[name]))
    for name, run in known.items():
        yield Run(
            name,
            run["line"],
            run["state"],
            run["model"],
            **{key: run.get(key) for key in KNOWN},
            data_set=_data_set(run.get("data_set")),
            metrics=run.get("metrics") or {},
            versions=tuple(of_run.get(name, ())),
        )


def _version(loop: str, given: Mapping[str, Any]) -> tuple[Version, Mapping[str, Any]]:
    """A version, and the model of the spec that it is of."""
    manifest = given["manifest"]
    found = Version(
        name=given["version"],
        run=given["run"],
        line=given["line"],
        reason=given["reason"],
        uri=given["uri"],
        sha256=given["sha256"],
        size=given["size"],
        format=manifest["format"],
        revision=manifest["loop_revision"],
        registered=given["registered"],
        slot=given["slot"],
        kept=given["kept"],
        signature=tuple(given["signature"]),
        learned=_data_set(manifest.get("data_set")) or _learned(loop, manifest),
        metrics=manifest.get("metrics") or {},
        libraries=manifest.get("libraries") or {},
    )
    return found, manifest["model"]


def _learned(loop: str, manifest: Mapping[str, Any]) -> DataSet | None:
    """What a line that learns each outcome has learned; it has a name like every range, and was not read as a whole."""
    if manifest["format"] != LEARNS_EACH_OUTCOME:
        return None
    return _named(loop, manifest["start_offset"], manifest["end_offset"], manifest["loop_revision"])


def _data_set(given: Mapping[str, Any] | None) -> DataSet | None:
    if given is None:
        return None
    about = given.get("digest"), given.get("rows")
    return _named(given["loop"], given["start"], given["end"], given["revision"], *about)


def _named(
    loop: str, start: int, end: int, revision: int, digest: str | None = None, rows: int | None = None
) -> DataSet:
    """A range by its name, which is that of `everloop_schemas.training.DataSet`."""
    return DataSet(f"{loop}@{start}..{end}#{revision}", loop, start, end, revision, digest, rows)
