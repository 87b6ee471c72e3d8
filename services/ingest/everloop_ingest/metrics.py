"""The metrics of ingest."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ITEMS = Counter(
    "everloop_ingest_items_total",
    "Events, labels and feedback by loop, endpoint and result (accepted or rejected).",
    ["loop", "endpoint", "result"],
)
REQUESTS = Counter("everloop_ingest_requests_total", "Requests by endpoint and HTTP status.", ["endpoint", "status"])
ACK_SECONDS = Histogram(
    "everloop_ingest_ack_seconds",
    "From a checked request to the acknowledgement of the broker, in seconds.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
)
UNACKNOWLEDGED = Gauge(
    "everloop_ingest_unacknowledged_events",
    "Events that the broker has not acknowledged; limit: MAX_UNACKED_EVENTS.",
)
LOOPS = Gauge("everloop_ingest_loops", "Loops that this process knows.")
IN_HAND_BYTES = Gauge(
    "everloop_ingest_in_hand_bytes", "Bytes of memory of requests in progress; limit: MAX_IN_HAND_BYTES."
)
SOURCE_RECORDS = Counter(
    "everloop_ingest_source_records_total",
    "Records of a source that were read, with whatever result.",
    ["loop", "source"],
)
SOURCE_PUBLISHED = Counter(
    "everloop_ingest_source_published_total",
    "Events and labels that came of the records of a source (kind: event or label).",
    ["loop", "source", "kind"],
)
SOURCE_REJECTED = Counter(
    "everloop_ingest_source_rejected_total", "Records of a source that became dead letters.", ["loop", "source"]
)
SOURCE_LOST = Counter(
    "everloop_ingest_source_lost_records_total",
    "Records that were deleted from the topic of a source before they could be read.",
    ["loop", "source"],
)
SOURCE_LAG = Gauge(
    "everloop_ingest_source_lag_records",
    "Records of a source that are not read yet, of the partitions that this process reads.",
    ["loop", "source"],
)
SOURCE_UP = Gauge(
    "everloop_ingest_source_up", "1 while a source is read, 0 while it is waiting or refused.", ["loop", "source"]
)
SOURCE_METRICS = (SOURCE_RECORDS, SOURCE_REJECTED, SOURCE_LOST, SOURCE_LAG, SOURCE_UP)
"""The metrics of a source with the labels loop and source; those of a source that is gone are removed."""
