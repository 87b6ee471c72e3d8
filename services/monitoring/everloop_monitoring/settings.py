"""The settings of monitoring."""

from __future__ import annotations

from pydantic import Field

from everloop_shared.settings import Settings


class MonitoringSettings(Settings):
    """Settings of monitoring, from `EVERLOOP_MONITORING_*` and `EVERLOOP_*`."""

    batch_size: int = Field(2000, ge=1, le=10_000, description="records handled between two commits, at most")
    database_url: str = Field(
        "", description="postgresql://… (its tables go to schema monitoring); empty: SQLite below the data folder"
    )
    gauges_every_s: float = Field(5.0, gt=0, description="how often the Prometheus gauges are renewed, in seconds")
    settle_s: float = Field(
        0.2,
        ge=0,
        le=10,
        description="pause after a transaction that comes right after another, in seconds",
    )
