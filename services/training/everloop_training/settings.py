"""Settings of the training service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from everloop_models.batch.allowed import BatchSettings


def _ray_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_address = parts.scheme == "ray" and bool(parts.hostname) and parts.port != 0 and not parts.path
    except ValueError:  # of a port that is no number
        is_address = False
    if value not in ("", "auto") and not is_address:
        raise ValueError("must be auto, ray://host:port (10001 is the usual port), or empty")
    return value


class TrainingSettings(BatchSettings):
    """Settings of the training service, read from the environment."""

    workers: int = Field(1, ge=1, le=64, description="processes that learn; each partition is learned by one of them")
    gather_ms: float = Field(50.0, ge=0, le=1_000, description="wait for a fuller batch while records arrive fast")
    snapshot_outcomes: int = Field(2000, ge=1, description="outcomes of a partition between two learner snapshots")
    snapshot_seconds: float = Field(30.0, gt=0, description="seconds between two learner snapshots, at most")
    in_flight: int = Field(2000, ge=1, description="outcomes in flight to the worker before consuming waits")
    in_flight_bytes: int = Field(
        16_000_000, ge=100_000, description="bytes of records in flight to the worker before consuming waits"
    )
    max_runs_per_hour: int = Field(
        20, ge=1, description="runs that people may request per loop and hour; more are answered with 429"
    )
    collect_every_s: float = Field(
        600.0, gt=0, description="seconds between two searches for artifacts that no version needs"
    )
    collect_after_s: float = Field(3600.0, ge=0, description="age at which an artifact may be collected, seconds")
    data_set_rows: int = Field(1_000_000, ge=1, description="rows of a data set that is asked for, at most")
    data_set_bytes: int = Field(2_000_000_000, ge=1_000, description="bytes of the rows of a data set, at most")
    data_set_seconds: float = Field(600.0, gt=0, description="seconds to read and send a data set, at most")
    data_set_readers: int = Field(2, ge=1, le=100, description="data sets read at the same time; more answer 429")
    lease_s: float = Field(
        600.0, gt=0, description="seconds that a trainer elsewhere has for a run; it may renew them before they end"
    )
    trainer_seconds: float = Field(
        3600.0, gt=0, description="seconds until a trainer's lease ends however often it is renewed"
    )
    model_bytes: int = Field(
        1_000_000_000,
        ge=1_000_000,
        description="bytes of the models that lines only predict with; others wait for room",
    )
    batch_seconds: float = Field(600.0, gt=0, description="seconds that one training of a batch line may take")
    batch_memory_bytes: int = Field(
        2_000_000_000,
        ge=10_000_000,
        description="memory that one training of a batch line may use beside its libraries, in bytes",
    )
    archive: str = Field("", description="fsspec URL of the archive; empty: nothing is archived")
    archive_rows: int = Field(100_000, ge=1, description="records of a table and partition that are written at once")
    archive_bytes: int = Field(
        64_000_000, ge=1_000_000, description="memory of records that are not archived yet, before consuming them waits"
    )
    archive_seconds: float = Field(300.0, gt=0, description="seconds until a record is written to the archive")
    ray: Annotated[str, AfterValidator(_ray_address)] = Field(
        "",
        description="where trials of searches and trainings of batch lines run: auto, the Ray cluster of this machine "
        "(or of RAY_ADDRESS); ray://host:port, a cluster elsewhere; default: processes of this service",
    )
    search_seconds: float = Field(3600.0, gt=0, description="seconds that one search may take, whatever its budget")
    search_workers: int = Field(1, ge=1, le=256, description="trials of a search that run at the same time")
    max_searches_per_hour: int = Field(
        20, ge=1, description="searches that people may request per loop and hour; more are answered with 429"
    )
    linger_ms: float = Field(
        100.0, ge=0, le=10_000, description="shortest time between two batches of outcomes that are not full"
    )

    def of_worker(self, number: int) -> TrainingSettings:
        """The settings of one of the workers: its files have a name of their own."""
        return self.model_copy(update={"instance": f"{self.instance}.{number}"}) if number else self

    def part(self, limit: int) -> int:
        """What each worker has of a limit that is for all of them."""
        return -(-limit // self.workers)

    def in_progress_file(self) -> Path:
        """The file in which this instance's worker names the outcome that it is learning."""
        return self.folder("training") / f"at-work-{self.instance}"

    def batch_folder(self) -> Path:
        """The folder in which this instance trains batch lines; what is in it is removed."""
        return self.folder("training") / f"batch-{self.instance}"

    def search_folder(self) -> Path:
        """The folder in which this instance searches; what is in it is removed."""
        return self.folder("training") / f"search-{self.instance}"

    def snapshot_folder(self) -> Path:
        """The folder of the learner snapshots, created where it is missing."""
        path = self.folder("training") / "snapshots"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def upload_folder(self) -> Path:
        """The folder in which models are received."""
        return self.folder("training") / "uploads"
