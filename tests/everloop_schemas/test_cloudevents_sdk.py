"""The SDK of CloudEvents reads events as they lie on topics."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from tests.builders.events import observation
from tests.builders.loops import loop_spec, loop_state

from everloop_schemas.envelope import Event
from everloop_shared.messaging.processing.dead_letter import make_dead_letter
from everloop_shared.messaging.routes import EVENT_HEADERS, Position

TIME = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS = [
    observation("é-1", {"x": 1.0, "y": None}, "é", loop="l", revision=0, time=TIME, traceparent=None),
    loop_state(loop_spec(), revision=1, sequence=1),
    make_dead_letter("feature", Position("ingest.event_received.v1"), b"\xff", b"no event", ValueError("no event")),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_the_sdk_reads_an_event_with_the_header_that_every_event_has(event: Event) -> None:
    message = KafkaMessage(headers=dict(EVENT_HEADERS), key=event.key(), value=event.encode())

    read = from_kafka_event(message)

    assert (read.get_id(), read.get_type(), read.get_source()) == (event.id, event.type, event.source)
    assert (read.get_subject(), read.get_time()) == (event.subject, event.time)
    assert isinstance(read.get_data(), dict)
