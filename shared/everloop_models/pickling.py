"""Models as bytes: saved with their sha256, unpickled only after it matches, and only what a model is made of."""

from __future__ import annotations

import io
import pickle
import platform
from hashlib import sha256
from importlib.metadata import version
from random import Random
from typing import Any, NamedTuple

from river.proba.base import Distribution

from everloop_models.errors import ArtifactCorrupt
from everloop_models.model import Model

LIBRARIES = ("river", "numpy", "scipy", "everloop")
_PACKAGES = ("river", "numpy", "scipy", "everloop_models")
_CLASSES = {
    "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple",
    "collections": "Counter OrderedDict defaultdict deque",
    "datetime": "date datetime time timedelta timezone",
    "functools": "partial",
    "random": "Random",
    "statistics": "NormalDist",
}
_FUNCTIONS = {
    "_codecs": "encode",
    "copyreg": "_reconstructor __newobj__",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy._core.numeric": "_frombuffer",
    "numpy.core.numeric": "_frombuffer",
}
_ALLOWED = {f"{m}.{n}" for table in (_CLASSES, _FUNCTIONS) for m, names in table.items() for n in names.split()}
_UNUSED = Random(0)
_MAKERS = ("__pyx_unpickle_", "__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor")


class Artifact(NamedTuple):
    """A saved model: its bytes, their sha256 in hex, their number."""

    data: bytes
    sha256: str
    size: int


def library_versions() -> dict[str, str]:
    """What a manifest records: river pickles do not survive other versions."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def save(model: Model) -> Artifact:
    """The model as an artifact."""
    file = io.BytesIO()
    _Canonical(file, protocol=5).dump(model)
    data = file.getvalue()
    return Artifact(data, sha256(data).hexdigest(), len(data))


def verify_and_load(data: bytes, expected_sha256: str) -> Model:
    """The model in these bytes; raises ArtifactCorrupt, before anything is unpickled, where the sha256 differs."""
    model = load_verified(data, expected_sha256)
    if not isinstance(model, Model):
        raise ArtifactCorrupt(f"the artifact holds a {type(model).__name__}, not a model")
    return model


def load_verified(data: bytes, expected_sha256: str, also: tuple[str, ...] = ()) -> Any:
    """Whatever was pickled, made of the allowed packages and those in `also`; raises ArtifactCorrupt."""
    seen = sha256(data).hexdigest()
    if seen != expected_sha256:
        raise ArtifactCorrupt(f"sha256 is {seen[:16]}, expected {expected_sha256[:16]}: not loaded")
    try:
        return _Restricted(io.BytesIO(data), also).load()
    except ArtifactCorrupt:
        raise
    except Exception as e:
        raise ArtifactCorrupt(f"does not unpickle with the installed libraries: {e!r}") from e


class _Canonical(pickle.Pickler):
    """What no prediction follows from is the same in every artifact: then the same learning is the same bytes."""

    def reducer_override(self, obj: Any) -> Any:
        """A distribution draws samples from a generator seeded by chance; models only ask it for densities."""
        if isinstance(obj, Distribution) and obj.seed is None:
            reduced: tuple[Any, ...] = tuple(obj.__reduce_ex__(5))
            return *reduced[:2], {**reduced[2], "_rng": _UNUSED}, *reduced[3:]
        return NotImplemented


class _Restricted(pickle.Unpickler):
    """Defence in depth behind the sha256: classes of known packages and a few named makers, nothing callable else."""

    def __init__(self, file: io.BytesIO, also: tuple[str, ...]) -> None:
        super().__init__(file)
        self._packages = (*_PACKAGES, *also)

    def find_class(self, module: str, name: str) -> Any:
        """The class a pickle asks for; raises ArtifactCorrupt for anything that no model is made of."""
        if (module, name) == ("builtins", "getattr"):
            return _bound_method
        if f"{module}.{name}" in _ALLOWED:
            return super().find_class(module, name)
        if module.partition(".")[0] in self._packages:
            found = super().find_class(module, name)
            home = str(getattr(found, "__module__", "")).partition(".")[0]
            ours = home in self._packages and not module.startswith("river.datasets")
            if ours and (isinstance(found, type) or "." in name):  # a class, or a method named through its class
                return found
            if name.startswith(_MAKERS):
                return found
        raise ArtifactCorrupt(f"the artifact asks for {module}.{name}, which no model is made of: not loaded")


def _bound_method(owner: object, name: str) -> Any:
    """What pickle uses getattr for: a river object's own method, and nothing further."""
    if type(owner).__module__.partition(".")[0] != "river" or name.startswith("__"):
        raise ArtifactCorrupt(f"the artifact asks for {name} of a {type(owner).__name__}: not loaded")
    return getattr(owner, name)
