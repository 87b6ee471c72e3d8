"""What backup and restore are told by the environment: the same variables as the services read."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from everloop_shared.settings import StoreSettings


class BackupSettings(StoreSettings):
    """The cluster, and where training keeps artifacts and snapshots."""

    @classmethod
    def of(cls, folder: Path, bootstrap: str) -> Self:
        """The settings of the installation in this folder, on this cluster. Raises Misconfigured."""
        return cls.load("training").model_copy(update={"data": folder, "kafka_bootstrap": bootstrap})

    @property
    def snapshots(self) -> Path:
        """Where training keeps the learners' snapshots."""
        return self.data / "training" / "snapshots"
