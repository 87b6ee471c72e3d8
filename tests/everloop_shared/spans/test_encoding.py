"""What is sent is what the SDK's own encoder would have sent."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource

from everloop_shared.spans.encoding import SpanEncoder
from everloop_shared.spans.readable import readable
from everloop_shared.spans.recorder import Kind, Span, SpanRecorder

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LINKS = tuple(f"00-{n:032x}-{n:016x}-01" for n in range(1, 129))
RESOURCE = Resource({"service.name": "everloop-feature", "process.pid": 7, "is.test": True})
ATTRIBUTES = {"text": "é" * 100, "whole": 1, "true": True, "one": 1.0, "negative": -(2**63), "empty": ""}


def recorded(
    kind: Kind, parent: str | None, attributes: dict[str, Any], links: tuple[str, ...] = (), error: str | None = None
) -> Span:
    """A span that has ended."""
    ended: list[Span] = []
    recorder = SpanRecorder(1.0, 0.0, ended.append)
    recorder.end(recorder.begin(f"{kind} ingest.event_received.v1", kind, parent, attributes, links), error)
    return ended[0]


SPANS = {
    "first": recorded("server", None, {}),
    "within": recorded("consumer", PARENT, ATTRIBUTES),
    "equal values of other types": recorded("internal", PARENT, {"whole": True, "true": 1, "one": 1}),
    "offsets": recorded("consumer", PARENT, {f"offset {n}": n for n in (2_048, 2_049, 300_000, 2**31, 2**63 - 1)}),
    "links": recorded("producer", None, {"messaging.batch.message_count": 500}, LINKS),
    "failed": recorded("consumer", PARENT, {"everloop.loop": "market"}, LINKS[:1], "InputRejected"),
}


@pytest.mark.parametrize("names", [[name] for name in SPANS] + [list(SPANS), ["within"] * 100])
def test_spans_are_encoded_as_by_the_sdk(names: list[str]) -> None:
    spans = [SPANS[name] for name in names]

    body = SpanEncoder(RESOURCE).encode(spans)

    ours = ExportTraceServiceRequest.FromString(body)
    theirs = encode_spans([readable(span, RESOURCE) for span in spans])
    for request in (ours, theirs):
        for span in request.resource_spans[0].scope_spans[0].spans:
            if not span.status.code:
                span.ClearField("status")  # the SDK sends an empty one
    assert ours == theirs


def test_an_attribute_without_a_value_is_left_out() -> None:
    span = recorded("internal", None, {"everloop.version": None, "everloop.loop": "market"})

    body = SpanEncoder(RESOURCE).encode([span])

    [sent] = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans
    assert [pair.key for pair in sent.attributes] == ["everloop.loop"]
