"""Which artifacts no version needs any more, by their names, their ages and the loop's state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from everloop_learning.version import Version, line_of
from everloop_models.formats import EXTENSIONS
from everloop_models.store import name_in
from everloop_schemas.registry import LoopStateData
from everloop_schemas.training import RunFinished, RunRequested


class StoredFile(NamedTuple):
    """A file of a loop in the artifact store: its name there, its size in bytes, and its age in seconds."""

    name: str
    size: int
    age_s: float


Run = tuple[RunRequested, RunFinished | None]
TRAINED_MODELS_KEPT = 10
"""The models of a line that stay, those that were trained last: it predicts with one of them, whatever has become of
the versions that were made of it, and needs the others where it is built again from the log."""


def files_of_runs(runs: Iterable[Run], state: LoopStateData) -> frozenset[str]:
    """The names of the files that a loop's lines predict with: models that were trained for them, or submitted.

    `runs` are the loop's, oldest first.
    """
    trained, files = defaultdict[str, list[str]](list), set[str]()
    lines = {line_of(version) for version in state.kept} | {s.line for s in state.submissions}
    for request, end in runs:
        if end is not None and end.data.artifact is not None:
            trained[end.data.line].append(name_in(end.data.artifact.uri))
        if request.data.artifact is not None and request.data.line in lines:
            files.add(name_in(request.data.artifact.uri))
    return frozenset(files.union(*(names[-TRAINED_MODELS_KEPT:] for names in trained.values())))


def unneeded_files(
    files: Iterable[StoredFile],
    state: LoopStateData | None,
    min_age_s: float,
    needed: Collection[str] = (),
) -> list[StoredFile]:
    """The files that may be deleted, but for those `needed`; `state` is None for a loop that was deleted.

    A version stays while the registry keeps it, and until the registry has decided on it: the offsets of a loop's
    versions grow, so one below `judged` has been decided on, or belongs to an earlier lifetime. A file younger than
    `min_age_s` stays, because its version may not be on the log yet. A name that begins with a dot was left by a crash
    in the middle of a write.
    """
    kept: Collection[str] = frozenset(state.kept if state else ())
    old = (f for f in files if f.age_s > min_age_s and f.name not in needed)
    return [f for f in old if _is_unneeded(f.name.rpartition("/")[2], state, kept)]


def _is_unneeded(name: str, state: LoopStateData | None, kept: Collection[str]) -> bool:
    if state is None or name.startswith("."):
        return True
    stem, _, extension = name.rpartition(".")
    version = (stem if extension in EXTENSIONS.values() else name).rpartition("-")[0]
    return version not in kept and 0 <= Version.parse(version).offset < state.judged
