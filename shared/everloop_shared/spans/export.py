"""Sends spans by OpenTelemetry's SDK, by OTLP over HTTP, from a thread of its own."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from threading import Event, Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from everloop_shared.metrics import SPANS
from everloop_shared.settings import Settings
from everloop_shared.spans.encoding import SpanEncoder
from everloop_shared.spans.readable import readable
from everloop_shared.spans.recorder import Span, SpanRecorder

log = logging.getLogger(__name__)
PATH = "/v1/traces"
WAITING_SPANS = 2_048
"""Spans that wait to be sent, at most: some 4 MB."""
BATCH_SPANS = 512
SEND_EVERY_S = 1.0
SEND_WITHIN_S = 5.0
"""For one batch, with its retries."""
OWN_AUTHORITIES = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE")
SendBytes = Callable[[bytes], bool]
"""Sends the body of a request; whether the collector took it."""


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

    Spans beyond the queue's room, or of a batch that the collector did not take, are dropped and counted. The queue
    takes a span as it is, in 1 us, and the thread encodes batches; the SDK's processor takes 4 to 12 for each.
    """

    def __init__(self, service: str, instance: str, exporter: OTLPSpanExporter) -> None:
        self._sent, self._refused = SPANS.labels(service, "sent"), SPANS.labels(service, "refused")
        self._dropped, self._lost = SPANS.labels(service, "queue_full"), SPANS.labels(service, "not_sent_at_stop")
        self._resource = Resource.create(
            {
                "service.name": f"everloop-{service}",
                "service.instance.id": instance,
                "service.version": version("everloop"),
            }
        )
        self._exporter, self._send_bytes = exporter, bytes_sender(exporter)
        self._encoder = SpanEncoder(self._resource)
        self._waiting, self._wake, self._stopping = deque[Span](), Event(), False
        self._thread = Thread(target=self._send_until_stopped, name="spans", daemon=True)
        self._thread.start()
        log.info("spans are recorded", extra={"instance": instance})

    def emit(self, span: Span) -> None:
        """Put a span into the queue, or drop it."""
        waiting = len(self._waiting)
        if self._stopping or waiting >= WAITING_SPANS:
            (self._lost if self._stopping else self._dropped).inc()
            return
        self._waiting.append(span)
        if waiting == BATCH_SPANS:
            self._wake.set()

    def stop(self, within_s: float) -> None:
        """Send what waits, for so long at most; the thread that may still send ends with the process."""
        self._stopping = True
        self._wake.set()
        self._thread.join(within_s)
        self._lost.inc(len(self._take(WAITING_SPANS)))
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send_until_stopped(self) -> None:
        while not self._stopping:
            self._wake.wait(SEND_EVERY_S)
            self._wake.clear()
            self._send_batch()
            while len(self._waiting) >= BATCH_SPANS:
                self._send_batch()
        while self._waiting:
            self._send_batch()

    def _take(self, most: int) -> list[Span]:
        """So many spans out of the queue, which the end of the service may empty meanwhile."""
        taken = list[Span]()
        with suppress(IndexError):
            while len(taken) < most:
                taken.append(self._waiting.popleft())
        return taken

    def _send_batch(self) -> None:
        spans = self._take(BATCH_SPANS)
        if not spans:
            return
        try:
            is_sent = self._send(spans)
        except Exception:
            log.exception("spans were not sent")
            is_sent = False
        (self._sent if is_sent else self._refused).inc(len(spans))

    def _send(self, spans: Sequence[Span]) -> bool:
        if self._send_bytes is not None:
            return self._send_bytes(self._encoder.encode(spans))
        made = [readable(span, self._resource) for span in spans]
        return self._exporter.export(made) is SpanExportResult.SUCCESS


def bytes_sender(exporter: OTLPSpanExporter) -> SendBytes | None:
    """What sends bytes within the SDK's exporter, with its retries; it is no part of its API, so it may be missing."""
    send = getattr(getattr(exporter, "_client", None), "export", None)
    return None if send is None else lambda body: bool(send(body).success)
