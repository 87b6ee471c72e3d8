"""Reads pickles that may be hostile: as data first, then by an unpickler that finds only what an allow-list names."""

from __future__ import annotations

import gc
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from everloop_models.allow_list import Allowed
from everloop_models.errors import ArtifactCorrupt
from everloop_models.opcodes import uses
from everloop_models.slices import give_way, release

_PLAIN_NUMBERS = frozenset(f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)) - {"f1"} | {"b1"}
_TWISTER_WORDS = 624
LENGTHS_BYTES = 100
"""Smaller pieces are the lengths of others, which follow at once."""


def check(data: bytes, allowed: Allowed) -> None:
    """Raises ArtifactCorrupt unless the pickle does only what the list allows; unpickles nothing."""
    if forbidden := min({allowed.renamed(use) for use in uses(data)} - allowed.uses, default=None):
        what = f"the artifact asks for {forbidden.module}.{forbidden.name} ({forbidden.how})"
        raise ArtifactCorrupt(f"{what}, which no {allowed.of} is made of: not loaded")


def unpickled(data: bytes, allowed: Allowed) -> Any:
    """What is in a pickle that `check` has passed; raises ArtifactCorrupt.

    No garbage is collected meanwhile: a collection would walk all objects made so far, and stop every thread.
    """
    unpickler, collects = _RestrictedUnpickler(data, allowed), gc.isenabled()
    gc.disable()
    try:
        return unpickler.load()
    except ArtifactCorrupt:
        raise
    except Exception as e:
        raise ArtifactCorrupt(f"does not unpickle with the installed libraries: {e!r}"[:500]) from e
    finally:
        if collects:
            gc.enable()
        unpickler.end()
        made = gc.get_referents(unpickler)  # at once, with the unpickler, those of a forest would take 60 ms
        give_way()
        del unpickler
        give_way()
        release(made)


class _YieldingReader:
    """Reads bytes, and lets other threads run at each read: the unpickler reads 64 KB at a time, which takes 2 ms.

    In between, the unpickler holds Python's lock: a forest of 20 MB would stop every other thread for a second.
    """

    def __init__(self, data: bytes) -> None:
        self._bytes = io.BytesIO(data)
        self.readinto = self._bytes.readinto
        self.readline = self._bytes.readline

    def read(self, size: int) -> bytes:
        """The next bytes."""
        if size > LENGTHS_BYTES:
            give_way()
        return self._bytes.read(size)


class _RestrictedUnpickler(pickle.Unpickler):
    """Finds the listed names and no other, and replaces those that could do more by narrower ones."""

    def __init__(self, data: bytes, allowed: Allowed) -> None:
        super().__init__(_YieldingReader(data))
        self._allowed = allowed
        self._generators: list[np.random.MT19937] = []
        self._replacements: dict[tuple[str, str], Callable[..., Any]] = {
            ("builtins", "getattr"): self._bound_method,
            ("numpy", "dtype"): _plain_dtype,
            ("numpy.random._pickle", "__bit_generator_ctor"): self._generator,
        }

    def load(self) -> Any:
        """What was pickled; raises ArtifactCorrupt."""
        found = super().load()
        for generator in self._generators:  # its C code trusts the position that a pickle sets
            if not 0 <= int(generator.state["state"]["pos"]) <= _TWISTER_WORDS:
                raise ArtifactCorrupt("a random generator stands outside its own numbers: not loaded")
        return found

    def end(self) -> None:
        """Break the cycle through its own methods: it refers to the whole model, and would keep it for ever."""
        self._replacements.clear()

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle asks for; raises ArtifactCorrupt for anything that is not listed."""
        key = self._allowed.moved.get((module, name), (module, name))
        if key not in self._allowed.names:
            what = f"the artifact asks for {module}.{name}, which no {self._allowed.of} is made of"
            raise ArtifactCorrupt(f"{what}: not loaded")
        return self._replacements.get(key) or super().find_class(*key)

    def _generator(self, _: object) -> np.random.MT19937:
        self._generators.append(made := np.random.MT19937(0))
        return made

    def _bound_method(self, owner: object, name: str) -> Any:
        """What pickle uses getattr for: a method of a library's own object, by a name that `check` has seen."""
        cls = type(owner)
        is_library = cls.__module__.partition(".")[0] in self._allowed.libraries
        if not is_library or name.startswith("__") or not callable(getattr(cls, name, None)):
            raise ArtifactCorrupt(f"the artifact asks for {name} of a {cls.__name__}: not loaded")
        return getattr(owner, name)


def _plain_dtype(code: str, *_: object) -> np.dtype[Any]:
    """numpy's own type of plain numbers, which no state that follows can change; none that holds objects."""
    if code not in _PLAIN_NUMBERS:
        raise ArtifactCorrupt(f"the artifact asks for numbers of type {code!r:.20}: not loaded")
    return np.dtype(code)
