"""Records the span of publishing a batch to Kafka, by OpenTelemetry's conventions for messaging ("send")."""

from __future__ import annotations

from collections.abc import Sequence

from everloop_shared.messaging.routes import EncodedEvent
from everloop_shared.spans.recorder import LINKS, Span, SpanRecorder
from everloop_shared.tracing import is_sampled, valid_traceparent

_BEFORE, _LENGTH = b'"traceparent":"', 55


class PublishSpans:
    """One span for each batch that has an event of a recorded trace in it.

    It is a part of that trace where it is the only one, else it begins one of its own that has a link to each: events
    of many requests leave together.
    """

    def __init__(self, recorder: SpanRecorder) -> None:
        self._recorder = recorder

    def begin(self, events: Sequence[EncodedEvent]) -> Span | None:
        """The span of publishing these events now; None where the trace of none of them is recorded."""
        found = dict[str, None]()
        for _, _, value in events:
            if is_sampled(context := traceparent_in(value)) and context is not None and len(found) < LINKS:
                found[context] = None
        contexts = tuple(context for context in found if valid_traceparent(context))
        if not contexts:
            return None
        topics = {topic for topic, _, _ in events}
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.batch.message_count": len(events),
        }
        if len(topics) == 1:
            attributes["messaging.destination.name"] = next(iter(topics))
        name = f"send {next(iter(topics))}" if len(topics) == 1 else f"send {len(topics)} topics"
        parent = contexts[0] if len(contexts) == 1 else None
        return self._recorder.begin(name, "producer", parent, attributes, () if parent else contexts)

    def end(self, span: Span, error: BaseException | None) -> None:
        """The broker has acknowledged the batch, or publishing it has failed."""
        self._recorder.end(span, error)


def traceparent_in(value: bytes) -> str | None:
    """The trace context in the envelope of an encoded event, which stands before its data; None where it has none."""
    at = value.find(_BEFORE, 0, max(0, value.find(b'"data":')))
    if at < 0:
        return None
    start = at + len(_BEFORE)
    return value[start : start + _LENGTH].decode("latin-1")
