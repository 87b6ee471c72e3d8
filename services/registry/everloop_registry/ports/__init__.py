"""What the registry needs from outside."""

from everloop_registry.ports.decisions import (
    ArtifactChecks,
    DecisionStore,
    LoopReader,
    ModelIntake,
    OriginReader,
    SpecChecks,
)
from everloop_registry.ports.mlflow import (
    ArtifactFiles,
    LoggedModelReader,
    LoopFinder,
    ModelReader,
    RunReader,
    TrackingReader,
    TrackingStore,
    VersionNumbers,
)

__all__ = [
    "ArtifactChecks",
    "ArtifactFiles",
    "DecisionStore",
    "LoggedModelReader",
    "LoopFinder",
    "LoopReader",
    "ModelIntake",
    "ModelReader",
    "OriginReader",
    "RunReader",
    "SpecChecks",
    "TrackingReader",
    "TrackingStore",
    "VersionNumbers",
]
