"""What ingest measures."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ITEMS = Counter(
    "everloop_ingest_items_total",
    "Events, labels and feedback by loop, door and result (accepted or rejected).",
    ["loop", "door", "result"],
)
REQUESTS = Counter("everloop_ingest_requests_total", "Requests by door and HTTP status.", ["door", "status"])
ACK_SECONDS = Histogram(
    "everloop_ingest_ack_seconds",
    "From a checked request to the broker's ack, in seconds.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
)
UNACKNOWLEDGED = Gauge(
    "everloop_ingest_unacknowledged_events", "Events that wait for the broker's ack; limit: MAX_UNACKED_EVENTS."
)
LOOPS = Gauge("everloop_ingest_loops", "Loops this process has heard of.")
IN_HAND_BYTES = Gauge(
    "everloop_ingest_in_hand_bytes", "Bytes that requests in hand take, as objects; limit: MAX_IN_HAND_BYTES."
)
