"""The settings of backup and restore: the variables that the services read too."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from everloop_shared.settings import StoreSettings


class BackupSettings(StoreSettings):
    """The cluster, the artifact store, and the folder of training's snapshots."""

    @classmethod
    def of(cls, folder: Path, bootstrap: str) -> Self:
        """The settings of the installation in this folder, on this cluster. Raises Misconfigured."""
        return cls.load("training").model_copy(update={"data": folder, "kafka_bootstrap": bootstrap})

    @property
    def snapshots(self) -> Path:
        """Where training keeps the learners' snapshots."""
        return self.data / "training" / "snapshots"
