"""Build, save, verify and load a model: one package for those who train and those who serve."""

from everloop_models.artifact import Artifact
from everloop_models.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    ArtifactUnavailable,
    FormatUnavailable,
    ModelBroken,
    ModelSpecInvalid,
)
from everloop_models.formats import RANDOM_SEED, build, library_versions, load, save, verify_and_load
from everloop_models.model import Model, ModelPrediction, OnlineModel

__all__ = [
    "RANDOM_SEED",
    "Artifact",
    "ArtifactCorrupt",
    "ArtifactMissing",
    "ArtifactUnavailable",
    "FormatUnavailable",
    "Model",
    "ModelBroken",
    "ModelPrediction",
    "ModelSpecInvalid",
    "OnlineModel",
    "build",
    "library_versions",
    "load",
    "save",
    "verify_and_load",
]
