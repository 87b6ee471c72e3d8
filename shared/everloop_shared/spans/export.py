"""Sends spans by OpenTelemetry's SDK, by OTLP over HTTP, from a thread of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from threading import Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from everloop_shared.metrics import SPANS
from everloop_shared.settings import Settings
from everloop_shared.spans.recorder import Span, SpanRecorder

log = logging.getLogger(__name__)
PATH = "/v1/traces"
WAITING_SPANS = 2_048
"""Spans that wait to be sent, at most: some 4 MB."""
BATCH_SPANS = 256
SEND_EVERY_MS = 1_000
SEND_WITHIN_S = 5.0
"""For one batch, with its retries."""
OWN_AUTHORITIES = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_KINDS = {
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
    "producer": SpanKind.PRODUCER,
    "internal": SpanKind.INTERNAL,
}


def exporting_recorder(service: str, settings: Settings) -> SpanRecorder:
    """The recorder of a service, whose spans are sent to the collector of its settings. Raises Misconfigured."""
    sent = _Export(service, settings.instance, _exporter(settings))
    return SpanRecorder(settings.trace_sampling, settings.trace_forced_per_s, sent.emit, sent.stop)


def _exporter(settings: Settings) -> OTLPSpanExporter:
    url = settings.otlp_url.rstrip("/")
    has_own = any(os.environ.get(name) for name in OWN_AUTHORITIES)
    return OTLPSpanExporter(
        endpoint=url if url.endswith(PATH) else url + PATH,
        certificate_file=str(settings.tls_ca) if settings.tls_ca and not has_own else None,
        headers=settings.read_otlp_headers(),
        timeout=SEND_WITHIN_S,
    )


class _Export:
    """A bounded queue and a thread that sends what is in it: a collector that is slow or away makes no one wait.

    Spans beyond the queue's room, or of a batch that the collector did not take, are dropped and counted.
    """

    def __init__(self, service: str, instance: str, exporter: SpanExporter) -> None:
        self._dropped = SPANS.labels(service, "queue_full")
        self._lost = SPANS.labels(service, "not_sent_at_stop")
        self._resource = Resource.create(
            {
                "service.name": f"everloop-{service}",
                "service.instance.id": instance,
                "service.version": version("everloop"),
            }
        )
        self._scope = InstrumentationScope("everloop", version("everloop"))
        self._counted = _Counted(service, exporter)
        self._processor = BatchSpanProcessor(
            self._counted,
            max_queue_size=2 * WAITING_SPANS,  # never reached: what is beyond our own limit is counted instead
            schedule_delay_millis=SEND_EVERY_MS,
            max_export_batch_size=BATCH_SPANS,
        )
        self._emitted = 0
        log.info("spans are recorded", extra={"instance": instance})

    def emit(self, span: Span) -> None:
        """Put a span into the queue, or drop it."""
        if self._emitted - self._counted.taken >= WAITING_SPANS:
            self._dropped.inc()
            return
        self._emitted += 1
        self._processor.on_end(self._readable(span))

    def stop(self, within_s: float) -> None:
        """Send what waits, for so long at most; the thread that may still send ends with the process."""
        stopping = Thread(target=self._processor.shutdown, daemon=True)
        stopping.start()
        stopping.join(within_s)
        if stopping.is_alive():
            self._counted.shutdown()
        if left := self._emitted - self._counted.taken:
            self._lost.inc(left)

    def _readable(self, span: Span) -> ReadableSpan:
        """The span as the SDK's exporters read it: made once it has ended, at a quarter of the cost of a live one."""
        attributes = span.attributes if span.error is None else {**span.attributes, "error.type": span.error}
        return ReadableSpan(
            span.name,
            _context(span.trace_id, span.span_id, False),
            None if span.parent_id is None else _context(span.trace_id, span.parent_id, True),
            self._resource,
            attributes,
            (),
            tuple(Link(_context(link[3:35], link[36:52], True)) for link in span.links),
            _KINDS[span.kind],
            None,
            _status(span.error is not None),
            span.started_ns,
            span.ended_ns,
            self._scope,
        )


class _Counted(SpanExporter):
    """Counts what becomes of the spans that an exporter takes out of the queue."""

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._sent, self._refused = SPANS.labels(service, "sent"), SPANS.labels(service, "refused")
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; in the thread of the queue alone."""
        self.taken += len(spans)
        result = self._exporter.export(spans)
        (self._sent if result is SpanExportResult.SUCCESS else self._refused).inc(len(spans))
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()


def _context(trace_id: str, span_id: str, is_remote: bool) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, _SAMPLED)


@cache
def _status(is_error: bool) -> Status:
    return Status(StatusCode.ERROR if is_error else StatusCode.UNSET)
