"""Which artifacts nobody needs any more: a pure rule over names, ages, and what the registry says of the loop."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from everloop_learning.version import Version
from everloop_schemas.registry import LoopStateData


class Stored(NamedTuple):
    """A file of a loop in the store: its name there, its bytes, and how old it is in seconds."""

    name: str
    size: int
    age_s: float


def needless(files: Iterable[Stored], state: LoopStateData | None, young_s: float) -> list[Stored]:
    """The files that can go; `state` is None for a loop that was deleted.

    A version stays while the registry keeps it, and until the registry has judged it: offsets of a loop's versions
    grow, so what is below the highest judged was judged too, or is of a life before. Nothing young goes, because its
    version may not be on the log yet. Names that begin with a dot are left by a crash in the midst of a write.
    """
    kept: Collection[str] = frozenset(state.kept if state else ())
    return [file for file in files if file.age_s > young_s and _needless(_file(file.name), state, kept)]


def _file(name: str) -> str:
    return name.rpartition("/")[2]


def _needless(file: str, state: LoopStateData | None, kept: Collection[str]) -> bool:
    if state is None or file.startswith("."):
        return True
    version = file.removesuffix(".pkl").rpartition("-")[0]
    return version not in kept and 0 <= Version.parse(version).offset < state.judged
