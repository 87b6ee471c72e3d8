"""Which artifacts no version needs any more, by their names, their ages and the loop's state."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from everloop_learning.version import Version
from everloop_models.formats import EXTENSIONS
from everloop_schemas.registry import LoopStateData


class StoredFile(NamedTuple):
    """A file of a loop in the artifact store: its name there, its size in bytes, and its age in seconds."""

    name: str
    size: int
    age_s: float


def unneeded_files(files: Iterable[StoredFile], state: LoopStateData | None, min_age_s: float) -> list[StoredFile]:
    """The files that may be deleted; `state` is None for a loop that was deleted.

    A version stays while the registry keeps it, and until the registry has decided on it: the offsets of a loop's
    versions grow, so one below `judged` has been decided on, or belongs to an earlier lifetime. A file younger than
    `min_age_s` stays, because its version may not be on the log yet. A name that begins with a dot was left by a crash
    in the middle of a write.
    """
    kept: Collection[str] = frozenset(state.kept if state else ())
    return [f for f in files if f.age_s > min_age_s and _is_unneeded(f.name.rpartition("/")[2], state, kept)]


def _is_unneeded(name: str, state: LoopStateData | None, kept: Collection[str]) -> bool:
    if state is None or name.startswith("."):
        return True
    stem, _, extension = name.rpartition(".")
    version = (stem if extension in EXTENSIONS.values() else name).rpartition("-")[0]
    return version not in kept and 0 <= Version.parse(version).offset < state.judged
