"""Model formats: how models of one library are built, checked, stored and loaded. A library is imported when needed."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Protocol, cast

from everloop_models.allow_list import Allowed
from everloop_models.artifact import Artifact, verify
from everloop_models.errors import ArtifactCorrupt, FormatUnavailable
from everloop_models.model import Model, OnlineModel
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec

FORMATS = {"river": "everloop_models.formats.river.format", "onnx": "everloop_models.formats.onnx.format"}
"""The module of each format, by the name that manifests give it."""
ONLINE_FORMATS = ("river",)
"""Those of models that learn one label at a time."""
EXTENSIONS = {"river": "pkl", "onnx": "onnx"}
"""How the names of a format's artifacts end."""
DEFAULT_FORMAT = "river"
RANDOM_SEED = 20
"""The seed of models that do not name one, so that learning is deterministic."""


class ModelFormat(Protocol):
    """The functions of a format's module."""

    LIBRARIES: tuple[str, ...]
    """The distributions whose versions a manifest records."""

    def check(self, data: bytes, /) -> None:
        """Raise ArtifactCorrupt unless the bytes are safe to load; load nothing."""

    def load(self, data: bytes, /) -> Model:
        """The model in bytes that `check` has passed; raises ArtifactCorrupt."""


class OnlineFormat(ModelFormat, Protocol):
    """The functions of a format whose models are built here and learn online."""

    ALLOWED: Allowed
    """What the pickles of its models may do, in artifacts and in learner snapshots."""

    def check_parameters(self, model: ModelSpec, spec: LoopSpec, field: str, /) -> None:
        """Raise ModelSpecInvalid for an unknown class, or a parameter beyond what any loop needs; build nothing."""

    def build(self, model: ModelSpec, spec: LoopSpec, field: str, /) -> OnlineModel:
        """A new, deterministic model of the loop's task; raises ModelSpecInvalid naming `field`."""

    def is_learned_per_class(self, model: Model, /) -> bool:
        """Whether predicting and learning take the more time the more classes there are."""

    def save(self, model: Model, /) -> bytes:
        """The model's bytes, equal for equal models."""


def model_format(name: str) -> ModelFormat:
    """The format of this name, imported now; raises FormatUnavailable."""
    _require(name)
    try:
        return cast(ModelFormat, import_module(FORMATS[name]))
    except ImportError as e:
        raise FormatUnavailable(f"models of format {name} need a library that is not installed here: {e}") from e


def extension_of(format_name: str) -> str:
    """How the names of a format's artifacts end; raises FormatUnavailable."""
    _require(format_name)
    return EXTENSIONS[format_name]


def _require(name: str) -> None:
    if name not in FORMATS:
        raise FormatUnavailable(f"there is no model format {name!r:.80} in this release; it has {', '.join(FORMATS)}")


def online_format(name: str) -> OnlineFormat:
    """The format of this name, whose models learn online; raises FormatUnavailable."""
    found = model_format(name)
    if name not in ONLINE_FORMATS:
        raise FormatUnavailable(f"models of format {name} do not learn online; those of {', '.join(ONLINE_FORMATS)} do")
    return cast(OnlineFormat, found)


def format_of(model: ModelSpec) -> str:
    """The format of a model in a spec: online models are River's, what is trained otherwise comes as ONNX."""
    return DEFAULT_FORMAT if model.kind == "online" else "onnx"


def build(model: ModelSpec, spec: LoopSpec, field: str = "models.0") -> OnlineModel:
    """A new online model of the loop's task, deterministic (seed `RANDOM_SEED` unless it names one).

    Raises ModelSpecInvalid naming `field`.
    """
    return online_format(format_of(model)).build(model, spec, field)


def save(model: OnlineModel) -> Artifact:
    """An online model as an artifact."""
    return Artifact.of(online_format(model.format).save(model))


def check(data: bytes, format_name: str = DEFAULT_FORMAT) -> None:
    """Raise ArtifactCorrupt unless the bytes are safe to load as a model of this format; load nothing."""
    model_format(format_name).check(data)


def load(data: bytes, format_name: str = DEFAULT_FORMAT) -> Model:
    """The model in bytes that `verify` and `check` have passed, here or in another process. Raises ArtifactCorrupt."""
    return model_format(format_name).load(data)


def verify_and_load(data: bytes, sha256: str, format_name: str = DEFAULT_FORMAT) -> OnlineModel:
    """The model in these bytes, to learn on; raises ArtifactCorrupt, before anything is loaded, for all others."""
    verify(Artifact(b"", sha256, len(data)), data)
    check(data, format_name)
    model = load(data, format_name)
    if not isinstance(model, OnlineModel):
        raise ArtifactCorrupt(f"a model of format {format_name} does not learn online")
    return model


@cache
def library_versions(format_name: str = DEFAULT_FORMAT) -> dict[str, str]:
    """What a manifest records: Python, Everloop, and the libraries of a format."""
    return versions_of(model_format(format_name).LIBRARIES)


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """The versions of Python, Everloop, and these libraries."""
    return {"python": platform.python_version(), **{name: version(name) for name in (*libraries, "everloop")}}


def allowed_in_snapshots() -> Allowed:
    """What models that learn do in a pickle, for files that hold learners."""
    return Allowed.union("model", [online_format(name).ALLOWED for name in ONLINE_FORMATS])
