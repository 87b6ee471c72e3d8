"""Records the span of publishing a batch to Kafka, by OpenTelemetry's conventions for messaging ("send")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice

from everloop_shared.messaging.kafka.producer_connection import OwnHeaders
from everloop_shared.messaging.routes import EVENT_HEADERS, EncodedEvent
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

    def begin(self, events: Sequence[EncodedEvent]) -> tuple[OwnHeaders | None, AbstractContextManager[None]]:
        """The headers of events of recorded traces, and the span of publishing all, until the broker has them.

        The header `traceparent` is where consumers of applications look for it (W3C Trace Context: Kafka); ours read
        the envelope, which has the same.
        """
        found = sampled_contexts(events)
        if not found:
            return None, nullcontext()
        own = {value: [*EVENT_HEADERS, ("traceparent", context.encode())] for value, context in found.items()}
        return own, self._recorder.until_end(self._begin(events, found))

    def _begin(self, events: Sequence[EncodedEvent], found: Mapping[int, str]) -> Span:
        contexts = tuple(islice(dict.fromkeys(found.values()), LINKS))
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


def sampled_contexts(events: Sequence[EncodedEvent]) -> dict[int, str]:
    """The trace contexts in the envelopes of events, before their data, whose flag says that they are recorded.

    Each is under the `id` of its event's value. Few are recorded, and every event that is published is looked at: so
    the flag is looked at first.
    """
    found = dict[int, str]()
    for _, _, value in events:
        at = value.find(_BEFORE)
        if at >= 0 and value[at + _FLAG : at + _END] in _SAMPLED and value.find(b'"data":', 0, at) < 0:
            context = valid_traceparent(value[at + len(_BEFORE) : at + _END].decode("latin-1"))
            if context is not None:
                found[id(value)] = context
    return found
