"""Settings of serving."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from everloop_shared.settings import StoreSettings

WORKER_FOLDER = "worker-"


class ServingSettings(StoreSettings):
    """EVERLOOP_SERVING_<NAME>; each has a default."""

    grpc_port: int = Field(0, ge=0, le=65535, description="port of gRPC; 0 switches it off")
    workers: int = Field(1, ge=1, le=64, description="processes behind the port, each with its own spool and memory")
    recent_predictions: int = Field(
        20_000, ge=1, description="predictions remembered, so that a repeated id gets the same"
    )
    recent_bytes: int = Field(32_000_000, ge=100_000, description="bytes of predictions remembered")
    tail_records: int = Field(2_000, ge=0, description="own predictions read back per partition at the start, at least")
    tail_margin_s: float = Field(60.0, ge=0, description="how far clocks of brokers and services may differ, seconds")
    entity_states: int = Field(10_000, ge=1, description="entities whose windows are in memory for REST predictions")
    entity_bytes: int = Field(
        64_000_000, ge=100_000, description="bytes of windows in memory: five times their bytes on the wire"
    )
    feature_url: str = Field(
        "",
        pattern=r"^(https?://[^/,\s]+/?(, ?https?://[^/,\s]+/?)*)?$",
        description="URLs of all replicas of feature, separated by commas: windows that are not in memory are read "
        "from there; without one, they start empty",
    )
    entity_read_ms: float = Field(
        100.0, gt=0, le=10_000, description="how long a REST prediction waits for windows from feature, at most"
    )
    entity_reads: int = Field(64, ge=1, le=1_000, description="windows read from feature at the same time")
    label_bytes: int = Field(
        32_000_000, ge=100_000, description="bytes of label statistics, in equal parts for all loops"
    )
    spool_bytes: int = Field(256_000_000, ge=100_000, description="bytes of unpublished records on disk")
    spool_segment_bytes: int = Field(16_000_000, ge=10_000, description="bytes of one spool file")
    spool_fsync: Literal["none", "interval", "always"] = Field(
        "interval", description="when records are synced to disk: a power loss may cost what is not"
    )
    spool_fsync_interval_s: float = Field(1.0, gt=0, description="seconds between two syncs where fsync is interval")
    drain_s: float = Field(
        0.0,
        ge=0,
        le=5,
        description="how long a stop waits until the spool is published, seconds; 0: the next start does",
    )
    load_attempts: int = Field(5, ge=1, description="attempts to fetch an artifact before a version is reported failed")
    load_retry_s: float = Field(0.5, ge=0, description="seconds before the second attempt; doubles up to 10 s")
    load_wait_s: float = Field(2.0, ge=0, description="how long a request waits for a loop's first model, seconds")
    labels_save_s: float = Field(5.0, gt=0, description="seconds between two saves of the label statistics")

    def of_worker(self, number: int) -> ServingSettings:
        """The settings of one of several workers: each is an instance of its own, the first under the given name."""
        return self if number == 0 else self.model_copy(update={"instance": f"{self.instance}.{number}"})

    def folder_of_worker(self, number: int) -> Path:
        """What a worker stores on disk; that of the first is the folder of a single process."""
        folder = self.folder("serving")
        return folder if number == 0 else folder / f"{WORKER_FOLDER}{number}"
