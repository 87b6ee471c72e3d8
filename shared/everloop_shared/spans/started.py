"""Starts and stops the recording of a service's spans, at its composition root and at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everloop_shared.errors import Misconfigured
from everloop_shared.spans.recorders import RECORDERS

if TYPE_CHECKING:
    from everloop_shared.settings import Settings

STOP_WITHIN_S = 2.0
"""How long the end of a service waits for its last spans to be sent."""


def start_spans(service: str, settings: Settings) -> None:
    """Record spans from now on, if there is an address to send them to: before the parts of the service are built.

    Raises Misconfigured. Without an address no library of OpenTelemetry is loaded.
    """
    stop_spans(service)
    if not settings.otlp_url:
        return
    try:
        from everloop_shared.spans.export import exporting_recorder
    except ImportError as e:
        fix = "install everloop[otel], or leave the variable out"
        raise Misconfigured(f"EVERLOOP_OTLP_URL: OpenTelemetry's SDK is not installed ({e}); {fix}") from e
    RECORDERS[service] = exporting_recorder(service, settings)


def stop_spans(service: str) -> None:
    """Send what is left, within STOP_WITHIN_S, and record nothing more."""
    if recorder := RECORDERS.pop(service, None):
        recorder.stop(STOP_WITHIN_S)
