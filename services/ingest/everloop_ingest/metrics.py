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
