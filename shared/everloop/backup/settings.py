"""The settings of backup and restore: the variables that the services read too."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from everloop.local.personal import with_keys_of
from everloop_shared.settings import StoreSettings


class BackupSettings(StoreSettings):
    """The cluster, the artifact store, and the folder of training's snapshots."""

    @classmethod
    def of(cls, folder: Path, bootstrap: str, kafka_config: Path | None = None) -> Self:
        """The settings of the installation in this folder, on this cluster. Raises Misconfigured.

        `kafka_config` is a file of client settings; without one it is that of the environment.
        """
        given = {"data": folder, "kafka_bootstrap": bootstrap, "kafka_config": kafka_config}
        settings = cls.load("training").model_copy(update={name: value for name, value in given.items() if value})
        return with_keys_of(folder, settings)

    @property
    def snapshots(self) -> Path:
        """Where training keeps the learners' snapshots."""
        return self.data / "training" / "snapshots"
