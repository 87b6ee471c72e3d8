"""How long the answers of endpoints take that are asked thousands of times a second."""

from __future__ import annotations

from everloop_shared.plain_metrics import TimesBy

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets, in seconds."""
ANSWER_TIMES = TimesBy(
    "everloop_http_answer_seconds",
    "From the first byte of a request to the last of its answer, whatever its status.",
    ["service", "endpoint"],
    BOUNDS,
)
