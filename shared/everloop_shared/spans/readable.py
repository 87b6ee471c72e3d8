"""Spans as OpenTelemetry's SDK has them, for an exporter that takes nothing else."""

from __future__ import annotations

from importlib.metadata import version

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from everloop_shared.spans.recorder import Span

_SAMPLED, _SCOPE = TraceFlags(TraceFlags.SAMPLED), InstrumentationScope("everloop", version("everloop"))
_KINDS = {
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
    "producer": SpanKind.PRODUCER,
    "internal": SpanKind.INTERNAL,
}


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """The span, of this resource."""
    attributes = span.attributes if span.error is None else {**span.attributes, "error.type": span.error}
    return ReadableSpan(
        span.name,
        _context(span.trace_id, span.span_id, False),
        None if span.parent_id is None else _context(span.trace_id, span.parent_id, True),
        resource,
        attributes,
        (),
        tuple(Link(_context(link[3:35], link[36:52], True)) for link in span.links),
        _KINDS[span.kind],
        None,
        Status(StatusCode.UNSET if span.error is None else StatusCode.ERROR),
        span.started_ns,
        span.ended_ns,
        _SCOPE,
    )


def _context(trace_id: str, span_id: str, is_remote: bool) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, _SAMPLED)
