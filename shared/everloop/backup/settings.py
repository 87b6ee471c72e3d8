"""What backup and restore are told by the environment: the same variables as the services read."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field

from everloop_shared.settings import Settings


class BackupSettings(Settings):
    """The cluster, and where training keeps artifacts and snapshots."""

    artifacts: str = Field("", description="fsspec URL of the artifact store; by default the folder artifacts in data")

    @classmethod
    def of(cls, folder: Path, bootstrap: str) -> Self:
        """The settings of the house in this folder, on this cluster. Raises Misconfigured."""
        return cls.load("training").model_copy(update={"data": folder, "kafka_bootstrap": bootstrap})

    @property
    def artifact_url(self) -> str:
        """Where training puts artifacts."""
        return self.artifacts or (self.data / "artifacts").as_uri()

    @property
    def snapshots(self) -> Path:
        """Where training keeps the learners' snapshots."""
        return self.data / "training" / "snapshots"
