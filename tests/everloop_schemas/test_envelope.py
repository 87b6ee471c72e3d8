"""The envelope on the wire."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from uuid import uuid5

import pytest
from tests.builders import events

from everloop_schemas.catalogue import decode
from everloop_schemas.envelope import NAMESPACE, derived_id
from everloop_schemas.ingest import EventReceived, EventReceivedData
from everloop_schemas.registry import LoopDeleted, LoopDeletedData
from everloop_schemas.serving import Shadow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_changed_copy_is_not_encoded_as_its_original() -> None:
    data = EventReceivedData(entity="one", fields={"x": 1.0}, received=NOW)
    event = EventReceived(id="e", time=NOW, subject="one", loop="market", data=data)
    original = event.encode()

    copy = event.copy_with(traceparent="00-1-1-01")

    assert EventReceived.decode(copy.encode()).traceparent == "00-1-1-01"
    assert event.encode() == original
    assert event == EventReceived.decode(original)


def test_a_data_event_writes_its_defaults_and_leaves_out_none() -> None:
    data = EventReceivedData(entity="one", fields={"x": None}, received=NOW)

    written = json.loads(EventReceived(id="e", time=NOW, subject="one", loop="market", data=data).encode())

    assert written == {
        "type": "ingest.event_received.v1",
        "specversion": "1.0",
        "id": "e",
        "source": "everloop/ingest",
        "time": "2026-01-01T00:00:00Z",
        "subject": "one",
        "datacontenttype": "application/json",
        "loop": "market",
        "revision": 0,
        "data": {"entity": "one", "fields": {"x": None}, "received": "2026-01-01T00:00:00Z"},
    }


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_never_written(number: float) -> None:
    shadows = (Shadow(version="a@1", prediction=True, probabilities={"true": number}),)

    with pytest.raises(ValueError, match="no number in JSON"):
        events.prediction_made("p", shadows=shadows).encode()
    with pytest.raises(ValueError, match="no number in JSON"):
        events.observation("o", {"x": None, "y": number}).encode()


@pytest.mark.parametrize(
    ("written", "instead", "reason"),
    [
        (b'"2026-01-01T00:00:00Z"', b'"2026-01-01T00:00:00"', "timezone"),
        (b'"type":"ingest.event_received.v1"', b'"type":"other"', "type"),
        (b'"id":"o"', b'"id":""', "id"),
        (b'"price":1.0', b'"price":NaN', "malformed"),
        (b'"price":1.0', b'"price":1e999', "out of range"),
        (b'"price":1.0', b'"price":[1.0]', "fields"),
        (b'"price":1.0', b'"price":"\xff"', "utf-8"),
        (b'"price":1.0', b'"price":' + b"[" * 100_000, "fields"),
    ],
)
def test_a_record_that_is_no_data_event_is_a_value_error_with_the_reason(
    written: bytes, instead: bytes, reason: str
) -> None:
    record = events.observation("o").encode()
    assert written in record

    with pytest.raises(ValueError, match=reason):
        decode(EventReceived.topic.name, record.replace(written, instead))


def test_a_data_event_ignores_fields_of_newer_writers_and_needs_no_defaults() -> None:
    record = (
        b'{"id":"e","time":"2026-01-01T01:00:00+01:00","subject":"one","loop":"market","newer":1,'
        b'"data":{"entity":"one","fields":{},"received":"2026-01-01T00:00:00Z","newer":[]}}'
    )

    read = decode(EventReceived.topic.name, record)

    data = EventReceivedData(entity="one", fields={}, received=NOW)
    assert read == EventReceived(id="e", time=NOW, subject="one", loop="market", data=data)
    assert read.type == "ingest.event_received.v1"


def test_a_decision_that_was_read_has_the_bytes_that_another_release_wrote() -> None:
    data = LoopDeletedData(reason="over")
    deleted = LoopDeleted(id="d", time=NOW, subject="market", loop="market", sequence=0, prevhash="0" * 64, data=data)
    raw = deleted.encode().replace(b'"sequence":0', b'"sequence": 0, "of_another_release": true')

    read = decode(LoopDeleted.topic.name, raw)

    assert read == deleted
    assert read.encode() == raw
    assert read.copy_with(revision=1).encode() != raw


@pytest.mark.parametrize("cause", [("p1",), ("ä/😀", 0), ("", -1, "x"), ()])
def test_a_derived_id_is_the_uuid5_of_loop_type_and_cause(cause: tuple[str | int, ...]) -> None:
    name = "/".join(["market", "serving.prediction_made.v1", *map(str, cause)])

    assert derived_id("market", "serving.prediction_made.v1", *cause) == str(uuid5(NAMESPACE, name))
