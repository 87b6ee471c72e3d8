"""The settings of ingest, from EVERLOOP_INGEST_<NAME>."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from everloop_shared.settings import Settings


class IngestSettings(Settings):
    """The limits of ingest; reaching one is visible in a metric or a response of its own."""

    max_in_hand_bytes: int = Field(
        256_000_000, ge=1_000, description="bytes of memory of requests in progress, 8 times their bodies; more: 429"
    )
    max_events_per_request: int = Field(10_000, ge=1, description="events, labels or feedback of one request, at most")
    clusters: Path | None = Field(
        None, description="JSON file of further Kafka clusters that sources may name: NAME to bootstrap and config"
    )
    max_sources: int = Field(100, ge=0, le=10_000, description="sources that this process reads, of all loops")
