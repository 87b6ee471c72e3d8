"""The recorder of each service in this process, for the parts that record spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from everloop_shared.spans.recorder import SpanRecorder

RECORDERS: dict[str, SpanRecorder] = {}
"""By service; a composition root starts one before it builds the parts, where the settings say so."""


def recorder_of(service: str) -> SpanRecorder | None:
    """The recorder of a service; None where nothing is recorded."""
    return RECORDERS.get(service)


def admitted(service: str, traceparent: str | None) -> str | None:
    """A valid trace context in what an application sent, as `SpanRecorder.admit`."""
    recorder = RECORDERS.get(service)
    return traceparent if recorder is None or traceparent is None else recorder.admit(traceparent)
