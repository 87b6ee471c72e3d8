"""What ingest can be told, from EVERLOOP_INGEST_<NAME>."""

from __future__ import annotations

from pydantic import Field

from everloop_shared.settings import Settings


class IngestSettings(Settings):
    """The limits of the door; each has a metric or an answer of its own when it is reached."""

    max_events_per_request: int = Field(10_000, ge=1, description="events, labels or feedback in one request, at most")
    max_bytes_in_flight: int = Field(64_000_000, ge=1_000, description="bytes of bodies in hand; more answers 429")
    body_timeout_s: float = Field(30.0, gt=0, description="seconds a body may take to arrive; longer answers 408")
