"""The envelope on the wire."""

from __future__ import annotations

from datetime import UTC, datetime

from everloop_schemas.ingest import EventReceived, EventReceivedData


def test_a_changed_copy_is_not_encoded_as_its_original() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    data = EventReceivedData(entity="one", fields={"x": 1.0}, received=now)
    event = EventReceived(id="e", time=now, subject="one", loop="market", data=data)
    original = event.encode()

    copy = event.model_copy(update={"traceparent": "00-1-1-01"})

    assert EventReceived.model_validate_json(copy.encode()).traceparent == "00-1-1-01"
    assert event.encode() == original
    assert event == EventReceived.model_validate_json(original)
