"""Dead letters as services publish them, about a record that lies on a topic."""

from __future__ import annotations

from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_shared.errors import InputRejected
from everloop_shared.messaging.processing.dead_letter import make_dead_letter
from everloop_shared.messaging.routes import Position


def letter_of(
    event: Event, offset: int = 0, service: str = "feature", reason: str = "data: does not fit"
) -> DeadLetter:
    """The dead letter of an event, from the service that could not process it."""
    return letter_of_record(event.topic.name, event.key(), event.encode(), offset, service, reason)


def letter_of_record(
    topic: str, key: bytes | None, value: bytes | None, offset: int = 0, service: str = "feature", reason: str = "bad"
) -> DeadLetter:
    """The dead letter of any record."""
    at = Position(topic, 0, offset, timestamp=1_714_564_800_000)
    return make_dead_letter(service, at, key, value, InputRejected(reason))
