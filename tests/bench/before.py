"""What the figures were in the release before the data path was made anew, on the same kind of machine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

BEFORE: Mapping[str, str] = MappingProxyType(
    {
        "REST, 32 connections": "710 to 930 requests/s; ratio 0.06",
        "REST, 32 connections, CPU per request, delivered": "780 us",
        "REST, 32 connections, p99": "110 to 350 ms",
        "REST, 2 workers against one, CPU per request, delivered": "one worker only",
        "REST, lists of 100, CPU per row, delivered": "not possible",
        "whole loop": "570 to 880 obs/s",
        "whole loop, CPU of all but the load": "2,200 to 3,100 us",
        "whole loop, CPU per labelled observation, alone": "2,200 to 3,100 us",
        "event to prediction at 100/s, CPU of all but the load": "16,000 us",
        "event to prediction at 1,000/s, p50": "78 ms",
        "event to prediction at 1,000/s, p99": "219 ms",
        "serving, stream scoring / aiokafka, River, aiokafka": "ratio 0.38 to 0.50",
        "feature service, CPU per event with one window": "215 to 310 us",
        "everloop replay, default options": "33 rows/s",
    }
)
"""By the name of the figure."""
