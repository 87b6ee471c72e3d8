"""Records the span of publishing a batch to Kafka, by OpenTelemetry's conventions for messaging ("send")."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice

from everloop_shared.messaging.routes import EncodedEvent
from everloop_shared.spans.recorder import LINKS, Span, SpanRecorder
from everloop_shared.tracing import valid_traceparent

_BEFORE = b'"traceparent":"'
_END = len(_BEFORE) + 55
_FLAG = _END - 1
_SAMPLED = frozenset(bytes([digit]) for digit in b"13579bdf")


class PublishSpans:
    """One span for each batch that has an event of a recorded trace in it.

    It is a part of that trace where it is the only one, else it begins one of its own that has a link to each: events
    of many requests leave together.
    """

    def __init__(self, recorder: SpanRecorder) -> None:
        self._recorder = recorder

    def recorded(self, events: Sequence[EncodedEvent]) -> AbstractContextManager[None]:
        """Run a block that publishes these events, and waits until the broker has acknowledged them, within a span."""
        span = self._begin(events)
        return nullcontext() if span is None else self._recorder.until_end(span)

    def _begin(self, events: Sequence[EncodedEvent]) -> Span | None:
        """The span of publishing these events now; None where the trace of none of them is recorded."""
        found = dict.fromkeys(sampled_contexts(events))
        contexts = tuple(context for context in islice(found, LINKS) if valid_traceparent(context))
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


def sampled_contexts(events: Sequence[EncodedEvent]) -> list[str]:
    """The trace context in the envelope of each event, before its data, whose flag says that it is recorded.

    Few are, and every event that is published is looked at: so the flag is looked at first.
    """
    found = list[str]()
    for _, _, value in events:
        at = value.find(_BEFORE)
        if at >= 0 and value[at + _FLAG : at + _END] in _SAMPLED and value.find(b'"data":', 0, at) < 0:
            found.append(value[at + len(_BEFORE) : at + _END].decode("latin-1"))
    return found
