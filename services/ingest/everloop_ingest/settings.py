"""What ingest can be told, from EVERLOOP_INGEST_<NAME>."""

from __future__ import annotations

from pydantic import Field

from everloop_shared.settings import Settings


class IngestSettings(Settings):
    """The limits of the door; each has a metric or an answer of its own when it is reached."""

    max_in_hand_bytes: int = Field(
        256_000_000, ge=1_000, description="bytes that requests in hand take, 8 times their bodies; more answers 429"
    )
    max_events_per_request: int = Field(10_000, ge=1, description="events, labels or feedback in one request, at most")
