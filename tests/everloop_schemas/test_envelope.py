"""The envelope on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid5

import pytest

from everloop_schemas.catalogue import decode
from everloop_schemas.envelope import NAMESPACE, derived_id
from everloop_schemas.ingest import EventReceived, EventReceivedData
from everloop_schemas.registry import LoopDeleted, LoopDeletedData


def test_a_changed_copy_is_not_encoded_as_its_original() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    data = EventReceivedData(entity="one", fields={"x": 1.0}, received=now)
    event = EventReceived(id="e", time=now, subject="one", loop="market", data=data)
    original = event.encode()

    copy = event.model_copy(update={"traceparent": "00-1-1-01"})

    assert EventReceived.model_validate_json(copy.encode()).traceparent == "00-1-1-01"
    assert event.encode() == original
    assert event == EventReceived.model_validate_json(original)


def test_a_decision_that_was_read_has_the_bytes_that_another_release_wrote() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    data = LoopDeletedData(reason="over")
    deleted = LoopDeleted(id="d", time=now, subject="market", loop="market", sequence=0, prevhash="0" * 64, data=data)
    raw = deleted.encode().replace(b'"sequence":0', b'"sequence": 0, "of_another_release": true')

    read = decode(LoopDeleted.topic.name, raw)

    assert read == deleted
    assert read.encode() == raw
    assert read.model_copy(update={"revision": 1}).encode() != raw


@pytest.mark.parametrize("cause", [("p1",), ("ä/😀", 0), ("", -1, "x"), ()])
def test_a_derived_id_is_the_uuid5_of_loop_type_and_cause(cause: tuple[str | int, ...]) -> None:
    name = "/".join(["market", "serving.prediction_made.v1", *map(str, cause)])

    assert derived_id("market", "serving.prediction_made.v1", *cause) == str(uuid5(NAMESPACE, name))
