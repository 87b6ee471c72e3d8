"""Build, save, verify and load a model: one package for those who train and those who serve."""

from everloop_metrics import class_name
from everloop_models.baseline import Baseline
from everloop_models.build import SEED, build
from everloop_models.errors import ArtifactCorrupt, ArtifactUnavailable, ModelBroken, ModelSpecInvalid
from everloop_models.losses import Losses
from everloop_models.model import Model, Prediction
from everloop_models.pickling import Artifact, library_versions, load, save, verify_and_load
from everloop_models.store import ArtifactStore
from everloop_models.trial import check_models

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
