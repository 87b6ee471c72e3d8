"""The trace context of the application: what OpenTelemetry says it is doing, where the application uses that."""

from __future__ import annotations

import sys

HEADER = "traceparent"


def trace_headers() -> dict[str, str]:
    """The header of the current span (W3C Trace Context); none where there is none, or OpenTelemetry is not loaded.

    The client does not depend on OpenTelemetry: where the application has not imported it, there is no span.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {HEADER: f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 1:02x}"}
