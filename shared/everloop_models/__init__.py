"""Build, save, verify and load a model: one package for those who train and those who serve."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everloop_metrics import class_name
    from everloop_models.baseline import Baseline
    from everloop_models.errors import ArtifactCorrupt, ArtifactUnavailable, ModelBroken, ModelSpecInvalid
    from everloop_models.estimators import SEED, build
    from everloop_models.losses import Losses
    from everloop_models.model import Model, Prediction
    from everloop_models.pickling import Artifact, library_versions, load, save, verify_and_load
    from everloop_models.store import ArtifactStore
    from everloop_models.trial import check_models

_WHERE = {
    "class_name": "everloop_metrics",
    "Baseline": "everloop_models.baseline",
    **dict.fromkeys(
        ("ArtifactCorrupt", "ArtifactUnavailable", "ModelBroken", "ModelSpecInvalid"), "everloop_models.errors"
    ),
    **dict.fromkeys(("SEED", "build"), "everloop_models.estimators"),
    "Losses": "everloop_models.losses",
    **dict.fromkeys(("Model", "Prediction"), "everloop_models.model"),
    **dict.fromkeys(("Artifact", "library_versions", "load", "save", "verify_and_load"), "everloop_models.pickling"),
    "ArtifactStore": "everloop_models.store",
    "check_models": "everloop_models.trial",
}

__all__ = [
    "SEED",
    "Artifact",
    "ArtifactCorrupt",
    "ArtifactStore",
    "ArtifactUnavailable",
    "Baseline",
    "Losses",
    "Model",
    "ModelBroken",
    "ModelSpecInvalid",
    "Prediction",
    "build",
    "check_models",
    "class_name",
    "library_versions",
    "load",
    "save",
    "verify_and_load",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for (PEP 562): River takes 100 MB, and the store needs none of it."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_WHERE[name]), name)
    return found
