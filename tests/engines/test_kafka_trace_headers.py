"""A consumer of an application finds the context of a recorded trace in the headers of a record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.engines.buses import KafkaBus, received

from everloop_schemas.ingest import EventReceived
from everloop_shared.messaging.kafka.producer import KafkaPublisher
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.routes import EVENT_HEADERS, EncodedEvent, encode
from everloop_shared.spans.recorder import Span, SpanRecorder
from everloop_shared.spans.recorders import RECORDERS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
TRACE = "00-{:032x}-00f067aa0ba902b7-{}"


@pytest.fixture
def ended() -> Iterator[list[Span]]:
    """The spans that ingest records."""
    found: list[Span] = []
    RECORDERS["ingest"] = SpanRecorder(0.1, 0.0, found.append)
    yield found
    RECORDERS.clear()


async def headers_of(bus: KafkaBus, events: list[EncodedEvent]) -> list[dict[str, bytes]]:
    """The headers of events on the topic, once they are published as ingest does it."""
    await ensure_topics(bus.settings, [EventReceived.topic])
    publisher = KafkaPublisher("ingest", bus.settings, lambda keys: [0] * len(keys))
    try:
        await publisher.publish(events)
    finally:
        await publisher.close()
    return await bus.sent_headers(EventReceived.topic)


@pytest.mark.parametrize("count", [3, 300])
async def test_the_headers_of_a_recorded_trace_have_its_context_and_no_others(
    count: int, kafka_bus: KafkaBus, ended: list[Span]
) -> None:
    flags = ["01" if n % 3 == 0 else "00" for n in range(count - 1)]
    contexts = [*(TRACE.format(n + 1, flag) for n, flag in enumerate(flags)), None]

    found = await headers_of(kafka_bus, [encode(received(str(n), traceparent=each)) for n, each in enumerate(contexts)])

    recorded = [context if context and context.endswith("01") else None for context in contexts]
    its_own = [{"traceparent": context.encode()} if context else {} for context in recorded]
    assert found == [dict(EVENT_HEADERS) | own for own in its_own]
    [span] = ended
    assert span.attributes["messaging.batch.message_count"] == count
    assert [*span.links] == [context for context in recorded if context] * (count > 3)


async def test_a_flag_within_the_data_or_a_context_that_is_none_is_no_header(
    kafka_bus: KafkaBus, ended: list[Span]
) -> None:
    topic, key, value = encode(received("one"))
    context = TRACE.format(7, "01").encode()
    quoted = value.replace(b'"data":{', b'"data":{"traceparent":"' + context + b'",')
    invalid = value.replace(b'"data":{', b'"traceparent":"' + b"0" * 54 + b'1","data":{')

    found = await headers_of(kafka_bus, [(topic, key, quoted), (topic, key, invalid)])

    assert found == [dict(EVENT_HEADERS)] * 2
    assert ended == []
