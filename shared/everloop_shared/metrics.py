"""The kernel's own metrics, each declared once with its meaning."""

from __future__ import annotations

from importlib.metadata import version
from platform import python_version

from prometheus_client import Counter, Gauge, Histogram, Info

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

BUILD = Info("everloop_build", "The version of Everloop that runs, and of its Python.")
BUILD.info({"version": version("everloop"), "python": python_version()})
CONSUMED = Counter("everloop_consumed_records_total", "Records handled, with whatever result.", ["service", "topic"])
HANDLED = Histogram(
    "everloop_handle_seconds", "Time in the handler of one record.", ["service", "topic"], buckets=SECONDS
)
DEAD_LETTERS = Counter(
    "everloop_dead_letters_total",
    "Records stored as dead letters, by topic and error.",
    ["service", "topic", "error"],
)
DROPPED = Counter(
    "everloop_dropped_records_total",
    "Records of deleted loops that were skipped.",
    ["service", "topic"],
)
PERSONAL_ERASED = Counter(
    "everloop_personal_erased_records_total",
    "Records left out because their personal values were erased.",
    ["service"],
)
RETRIES = Counter("everloop_retries_total", "Retries of a record after a backoff, by topic.", ["service", "topic"])
LAG = Gauge(
    "everloop_lag_records", "Records of a partition that are not handled yet.", ["service", "topic", "partition"]
)
COMMITS = Counter("everloop_commits_total", "Commits of offsets, by result.", ["service", "result"])
PUBLISHED = Counter("everloop_published_events_total", "Events that the broker has acknowledged.", ["service", "topic"])
PUBLISH = Histogram(
    "everloop_publish_seconds",
    "Time until the broker has acknowledged one publish.",
    ["service"],
    buckets=SECONDS,
)
SPANS = Counter(
    "everloop_spans_total",
    "Spans of traces, by what became of them: sent, refused by the collector, queue_full, not_sent_at_stop.",
    ["service", "result"],
)
UNACKED = Gauge("everloop_unacked_events", "Events sent and not acknowledged yet.", ["service"])
OUTBOX = Gauge("everloop_outbox_events", "Events in the outbox that are not published yet.", ["service"])
REFUSED = Counter(
    "everloop_http_refused_total",
    "Requests and connections that no route has handled.",
    ["service", "status"],
)
LIMITED = Counter(
    "everloop_limited_requests_total",
    "Requests and calls that were refused because their caller has reached this limit.",
    ["service", "limit"],
)
AUDIT_LOST = Counter(
    "everloop_audit_lost_records_total",
    "Answers and refusals that are not in the audit, as the broker was away for too long.",
    ["service"],
)
CONNECTIONS = Gauge("everloop_http_connections", "Open HTTP connections; limit: MAX_CONNECTIONS.", ["service"])
TLS_VALID_UNTIL = Gauge(
    "everloop_tls_valid_until_seconds", "When the TLS certificate in use ends, in seconds since 1970.", ["service"]
)
STATE_BUFFERS = Gauge(
    "everloop_state_write_buffer_bytes",
    "Memory of state that is not in a file on disk yet, beside the log that it is in; RocksDB writes a file at 16 MB.",
    ["service", "table"],
)
BODY_BYTES = Gauge("everloop_http_body_bytes", "Bytes of bodies in memory; limit: MAX_BYTES_IN_FLIGHT.", ["service"])
