"""Models as bytes: saved with their sha256, read as data first, unpickled only when they do what models do."""

from __future__ import annotations

import io
import pickle
import platform
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from random import Random
from typing import Any, NamedTuple, Protocol

import numpy as np
from river.proba.base import Distribution

from everloop_models.allow_list import MODELS, Allowed
from everloop_models.errors import ArtifactCorrupt
from everloop_models.model import Model
from everloop_models.opcodes import uses

LIBRARIES = ("river", "numpy", "scipy", "everloop")
_PLAIN_NUMBERS = frozenset(f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)) - {"f1"} | {"b1"}
_TWISTER_WORDS = 624
_UNUSED = Random(0)


class Artifact(NamedTuple):
    """A saved model: its bytes, their sha256 in hex, their number."""

    data: bytes
    sha256: str
    size: int


class Announced(Protocol):
    """What a record says of an artifact."""

    @property
    def sha256(self) -> str | None: ...
    @property
    def size(self) -> int: ...


def library_versions() -> dict[str, str]:
    """What a manifest records: river pickles do not survive other versions."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def save(model: Model) -> Artifact:
    """The model as an artifact."""
    file = io.BytesIO()
    _Canonical(file, protocol=5).dump(model)
    data = file.getvalue()
    return Artifact(data, sha256(data).hexdigest(), len(data))


def verify(announced: Announced, data: bytes) -> None:
    """Raises ArtifactCorrupt unless these are the bytes that the record announced.

    Bytes and digest come from whoever can write to the store and to the bus; a signature would be checked here.
    """
    if announced.size not in (0, len(data)):  # 0: states of before said none
        raise ArtifactCorrupt(f"it has {len(data):,} bytes, announced were {announced.size:,}: not loaded")
    if (seen := sha256(data).hexdigest()) != announced.sha256:
        raise ArtifactCorrupt(f"sha256 is {seen[:16]}, expected {str(announced.sha256)[:16]}: not loaded")


def check(data: bytes, allowed: Allowed = MODELS) -> None:
    """Raises ArtifactCorrupt unless the pickle does only what those that were seen do; unpickles nothing."""
    if strange := min(uses(data) - allowed.uses, default=None):
        what = (
            f"the artifact asks for {strange.module}.{strange.name} ({strange.how}), which no {allowed.of} is made of"
        )
        raise ArtifactCorrupt(f"{what}: not loaded")


def load(data: bytes) -> Model:
    """The model in bytes that `verify` and `check` have passed, here or in another process. Raises ArtifactCorrupt."""
    model = unpickled(data)
    if not isinstance(model, Model):
        raise ArtifactCorrupt(f"the artifact holds a {type(model).__name__}, not a model")
    return model


def verify_and_load(data: bytes, expected_sha256: str) -> Model:
    """The model in these bytes; raises ArtifactCorrupt, before anything is unpickled, for all that is not one."""
    verify(Artifact(b"", expected_sha256, len(data)), data)
    check(data)
    return load(data)


def unpickled(data: bytes, allowed: Allowed = MODELS) -> Any:
    """What is in a pickle that `check` has passed; raises ArtifactCorrupt."""
    try:
        return _Restricted(data, allowed).load()
    except ArtifactCorrupt:
        raise
    except Exception as e:
        raise ArtifactCorrupt(f"does not unpickle with the installed libraries: {e!r}"[:500]) from e


class _Canonical(pickle.Pickler):
    """What no prediction follows from is the same in every artifact: then the same learning is the same bytes."""

    def reducer_override(self, obj: Any) -> Any:
        """A distribution draws samples from a generator seeded by chance; models only ask it for densities."""
        if isinstance(obj, Distribution) and obj.seed is None:
            reduced: tuple[Any, ...] = tuple(obj.__reduce_ex__(5))
            return *reduced[:2], {**reduced[2], "_rng": _UNUSED}, *reduced[3:]
        return NotImplemented


class _Restricted(pickle.Unpickler):
    """Finds the listed names and no other, and puts a narrower one in the place of those that could do more."""

    def __init__(self, data: bytes, allowed: Allowed) -> None:
        super().__init__(io.BytesIO(data))
        self._allowed = allowed
        self._generators: list[np.random.MT19937] = []
        self._instead: dict[tuple[str, str], Callable[..., Any]] = {
            ("builtins", "getattr"): _bound_method,
            ("numpy", "dtype"): _plain_dtype,
            ("numpy.random._pickle", "__bit_generator_ctor"): self._generator,
        }

    def load(self) -> Any:
        """What was pickled; raises ArtifactCorrupt."""
        found = super().load()
        for generator in self._generators:  # its C code believes the position it is told
            if not 0 <= int(generator.state["state"]["pos"]) <= _TWISTER_WORDS:
                raise ArtifactCorrupt("a random generator stands outside its own numbers: not loaded")
        return found

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle asks for; raises ArtifactCorrupt for anything that is not listed."""
        if (module, name) not in self._allowed.names:
            what = f"the artifact asks for {module}.{name}, which no {self._allowed.of} is made of"
            raise ArtifactCorrupt(f"{what}: not loaded")
        return self._instead.get((module, name)) or super().find_class(module, name)

    def _generator(self, _: object) -> np.random.MT19937:
        self._generators.append(made := np.random.MT19937(0))
        return made


def _bound_method(owner: object, name: str) -> Any:
    """What pickle uses getattr for: a river object's own method, by a name that `check` has seen."""
    cls = type(owner)
    if cls.__module__.partition(".")[0] != "river" or name.startswith("__") or not callable(getattr(cls, name, None)):
        raise ArtifactCorrupt(f"the artifact asks for {name} of a {cls.__name__}: not loaded")
    return getattr(owner, name)


def _plain_dtype(code: str, *_: object) -> np.dtype[Any]:
    """numpy's own type of plain numbers, which no state that follows can change; none that holds objects."""
    if code not in _PLAIN_NUMBERS:
        raise ArtifactCorrupt(f"the artifact asks for numbers of type {code!r:.20}: not loaded")
    return np.dtype(code)
