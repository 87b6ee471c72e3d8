"""A collector of OpenTelemetry: takes spans by OTLP over HTTP, and decodes them as the protocol's own messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from tests.monitoring.http_receiver import HttpReceiver, http_receiver


@dataclass(frozen=True)
class CollectedSpan:
    """A span as it was sent, with the service and the instance that its resource names; ids are hexadecimal digits."""

    service: str
    instance: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    failed: bool
    seconds: float


@dataclass
class Collector:
    """What has arrived."""

    receiver: HttpReceiver

    @property
    def url(self) -> str:
        """EVERLOOP_OTLP_URL."""
        return self.receiver.url

    def spans(self, trace_id: str = "") -> list[CollectedSpan]:
        """All spans so far, or those of one trace."""
        requests = [received for received in list(self.receiver.received) if received.path == "/v1/traces"]
        found = [span for request in requests for span in _decode(request.body)]
        return [span for span in found if trace_id in ("", span.trace_id)]


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector on a free port of this machine, until the block ends."""
    with http_receiver() as receiver:
        yield Collector(receiver)


def by_name(spans: Sequence[CollectedSpan], service: str, name: str) -> CollectedSpan:
    """The one span of a service under a name."""
    found = [span for span in spans if (span.service, span.name) == (f"everloop-{service}", name)]
    there = sorted((span.service, span.name) for span in spans)
    assert len(found) == 1, f"{len(found)} spans {name!r} of {service} among {there}"
    return found[0]


def _decode(body: bytes) -> Iterator[CollectedSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    for group in request.resource_spans:
        about = _values(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield CollectedSpan(
                    about["service.name"],
                    about["service.instance.id"],
                    span.name,
                    WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    _values(span.attributes),
                    span.status.code == Status.STATUS_CODE_ERROR,
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                )


def _values(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in attributes}
