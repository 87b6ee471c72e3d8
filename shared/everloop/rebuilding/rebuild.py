"""Finds what a version was made of, has it made again, and says whether both are the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from everloop.data_sets import DataSet
from everloop.errors import EverloopError
from everloop.lineage.collect import LEARNS_EACH_OUTCOME, Ask
from everloop.own_folder import own_folder
from everloop.wire import loop_path

SLOTS = ("champion", "candidate")
ELSEWHERE = "submitted"
BATCH_MEMORY_BYTES = 8_000_000_000
"""Address space for a batch training: more than a service allows by default, so that its limit decides."""


class NotRebuilt(EverloopError):
    """A version that cannot be learned again here; the message says why."""


@dataclass(frozen=True)
class Origin:
    """What a version was made of: its registration, the spec of the revision it was made under, and its data set."""

    registered: Mapping[str, Any]
    spec: Mapping[str, Any]
    data_set: str

    @property
    def version(self) -> str:
        """Its name."""
        return str(self.registered["version"])

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Its manifest."""
        manifest: Mapping[str, Any] = self.registered["manifest"]
        return manifest

    @property
    def is_online(self) -> bool:
        """Whether its model learned each outcome."""
        return bool(self.manifest["format"] == LEARNS_EACH_OUTCOME)


@dataclass(frozen=True)
class Rebuilt:
    """A version that was made again, with the libraries of this process and the number of `outcomes` in it.

    `erased` outcomes were left out, because their persons were erased since, or were erased already.
    """

    origin: Origin
    sha256: str
    size: int
    outcomes: int
    libraries: Mapping[str, str]
    seconds: float
    erased: int = 0

    @property
    def is_identical(self) -> bool:
        """Whether these are the bytes of the version."""
        return self.sha256 == str(self.origin.registered["sha256"])

    @property
    def differences(self) -> list[str]:
        """What may be the reason where they are not."""
        manifest, found = self.origin.manifest, []
        if self.erased:
            found.append(f"{self.erased:,} outcomes of erased persons are left out")
        elif manifest["outcomes"] != self.outcomes:
            found.append(f"it was made of {manifest['outcomes']:,} outcomes, the log has {self.outcomes:,} of them")
        for name, version in manifest["libraries"].items():
            here = self.libraries.get(name, "not installed")
            if here != version and name != "everloop":
                found.append(f"{name} was {version}, here it is {here}")
        return found


def find_origin(loop: str, version: str, ask: Ask) -> Origin:
    """What a version was made of; `version` may be `champion` or `candidate`. Raises NotRebuilt, EverloopError."""
    versions = ask("registry", loop_path(loop, "versions"))["versions"]
    names = (version,) if version not in SLOTS else ()
    found = next((v for v in versions if v["version"] in names or (v["slot"] == version in SLOTS)), None)
    if found is None:
        newest = ", ".join(v["version"] for v in versions[-3:]) or "none yet"
        raise NotRebuilt(f"{loop} has no version {version!r}; the newest: {newest} (everloop versions {loop})")
    manifest = found["manifest"]
    if manifest.get("trainer") or found["reason"] == ELSEWHERE:
        by = f"the trainer {manifest['trainer']}" if manifest.get("trainer") else "whoever submitted it"
        raise NotRebuilt(f"{found['version']} was trained elsewhere, by {by}: only there it can be made again")
    revision = manifest["loop_revision"]
    decisions = ask("registry", loop_path(loop, "history"))["decisions"]
    specs = (d["data"]["spec"] for d in decisions if d["revision"] == revision and "spec" in d["data"])
    spec = next(specs, None)
    if spec is None:
        raise NotRebuilt(f"the history of {loop} has no revision {revision}, under which {found['version']} was made")
    return Origin(found, spec, data_set_of(loop, manifest))


def data_set_of(loop: str, manifest: Mapping[str, Any]) -> str:
    """The name of the data set that a version learned, `LOOP@START..END#REVISION`."""
    known = manifest.get("data_set") or {"start": manifest["start_offset"], "end": manifest["end_offset"]}
    return f"{loop}@{known['start']}..{known['end']}#{known.get('revision', manifest['loop_revision'])}"


def rebuild(origin: Origin, rows: DataSet, waiting: Callable[[], None] = lambda: None) -> Rebuilt:
    """Make a version again of these rows, in a process of its own; `waiting` is called ten times a second.

    Raises NotRebuilt with the reason where the model cannot be made here.
    """
    from everloop.rebuilding import learn  # not part of the light installation
    from everloop_models.batch.child import ANSWER, MODEL, REQUEST, ROWS
    from everloop_models.formats import library_versions, versions_of

    started, manifest = time.monotonic(), origin.manifest
    with own_folder("rebuild") as name:
        folder = Path(name)
        rows.to_ndjson(folder / ROWS)
        request = {"model": manifest["model"], "spec": origin.spec, "skipped": list(manifest.get("skipped") or ())}
        (folder / REQUEST).write_text(json.dumps(request))
        _run(folder, origin, waiting)
        answer = json.loads((folder / ANSWER).read_bytes()) if (folder / ANSWER).exists() else {}
        made = folder / (learn.MODEL if origin.is_online else MODEL)
        if "reason" in answer or not made.exists():
            raise NotRebuilt(f"{origin.version} cannot be made again: {answer.get('reason', 'its process ended')}")
        data = made.read_bytes()
    of = (name for name in manifest["libraries"] if name not in ("python", "everloop"))
    libraries = library_versions() if origin.is_online else versions_of(of)
    outcomes = answer.get("outcomes", len(rows))
    seconds = time.monotonic() - started
    return Rebuilt(origin, sha256(data).hexdigest(), len(data), outcomes, libraries, seconds, rows.erased)


def _run(folder: Path, origin: Origin, waiting: Callable[[], None]) -> None:
    from everloop_models.compute.environment import training_environment

    module = "everloop.rebuilding.learn" if origin.is_online else "everloop_models.batch.child"
    limits = [] if origin.is_online else [BATCH_MEMORY_BYTES, 10 * origin.registered["size"] + 1_000_000]
    command = [sys.executable, "-m", module, *map(str, [folder, os.getpid(), *limits])]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=training_environment())
    try:
        while True:
            try:
                process.wait(0.1)
                return
            except subprocess.TimeoutExpired:
                waiting()
    finally:
        process.kill()
        process.wait()
