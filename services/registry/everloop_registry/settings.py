"""The registry's settings."""

from __future__ import annotations

from pydantic import Field

from everloop_models.batch.allowed import BatchSettings
from everloop_shared.database import sqlite_url


class RegistrySettings(BatchSettings):
    """The registry's settings; each is read from `EVERLOOP_REGISTRY_<NAME>`."""

    database_url: str = Field(
        "", description="postgresql://… (its tables go to schema registry); empty: SQLite under the data folder"
    )
    max_spec_bytes: int = Field(256_000, ge=1_000, le=400_000, description="largest loop file accepted, in bytes")
    max_loops: int = Field(1_000, ge=1, description="loops there may be at a time; one more is refused with 409")
    max_changes_per_hour: int = Field(
        100, ge=1, description="applications, rollbacks or resumes of one loop within an hour; more answer 429"
    )
    light_check_bytes: int = Field(
        2_000_000, ge=0, description="a refresh above this is not loaded again, only its size and sha256 are checked"
    )
    settle_s: float = Field(
        0.1, ge=0, le=10, description="pause after a transaction that comes right after another, in seconds"
    )

    @property
    def database(self) -> str:
        """The database's URL; makes the folder of the default one."""
        return self.database_url or sqlite_url(self.folder("registry") / "registry.db")
