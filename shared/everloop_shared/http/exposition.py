"""The metrics of a process as text: Prometheus' own format, or OpenMetrics for who accepts it."""

from __future__ import annotations

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

OPENMETRICS = "application/openmetrics-text"
OPENMETRICS_TYPE = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
TEXT_TYPE = CONTENT_TYPE_LATEST
_VERSIONS = ("", "0.0.1", "1.0.0")
"""Versions of OpenMetrics that a client may ask for: 1.0.0 is written, which is read by who reads 0.0.1."""


def prefers_openmetrics(accept: str) -> bool:
    """Whether this `Accept` prefers OpenMetrics; plain text is what is answered otherwise, whatever is asked for."""
    best = {OPENMETRICS: 0.0, "text/plain": 0.0}
    for entry in accept.lower().split(","):
        kind, *parts = (part.strip() for part in entry.split(";"))
        parameters = {name.strip(): value.strip(' "') for name, _, value in (part.partition("=") for part in parts)}
        if kind not in best or (kind == OPENMETRICS and parameters.get("version", "") not in _VERSIONS):
            continue
        try:
            best[kind] = max(best[kind], float(parameters.get("q", "1")))
        except ValueError:
            continue
    return best[OPENMETRICS] > 0 and best[OPENMETRICS] >= best["text/plain"]


async def own_metrics(*, as_openmetrics: bool = False) -> bytes:
    """The metrics of this process."""
    return await asyncio.to_thread(_openmetrics if as_openmetrics else generate_latest)


def _openmetrics() -> bytes:
    text: bytes = openmetrics.generate_latest(REGISTRY)  # type: ignore[no-untyped-call]
    return text


def content_type(*, as_openmetrics: bool) -> str:
    """The content type of `own_metrics`."""
    return OPENMETRICS_TYPE if as_openmetrics else TEXT_TYPE
