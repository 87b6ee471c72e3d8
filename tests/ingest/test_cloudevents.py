"""CloudEvents at the three endpoints of ingest, in every mode, as stock SDKs send them and as broken senders do."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_shared.messaging.memory import MemoryBroker

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
NDJSON = "application/x-ndjson"
BINARY = {"ce-specversion": "1.0", "ce-id": "e1", "ce-source": "/shop", "ce-type": "order", "ce-subject": "s1"}
EVENT = {"specversion": "1.0", "id": "e1", "source": "/shop", "type": "order", "subject": "s1", "data": {"price": 1}}
DATA: dict[str, dict[str, Any]] = {"/events": {"price": 1}, "/labels": {"label": True}, "/feedback": {"correct": False}}
StartIngest = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def bodies_of(topic_events: list[Any]) -> list[dict[str, Any]]:
    """What every event says, without what differs from one arrival to the next."""
    wires = [json.loads(e.encode()) for e in topic_events]
    for wire in wires:
        wire["data"].pop("received")
    return wires


@pytest.mark.parametrize("content_type", [None, "application/json", "application/JSON; charset=utf-8", "text/json"])
@pytest.mark.parametrize("endpoint", list(DATA))
async def test_binary_mode_is_read_at_every_endpoint_and_a_missing_content_type_is_json(
    client: httpx.AsyncClient, broker: MemoryBroker, endpoint: str, content_type: str | None
) -> None:
    headers = BINARY | ({"content-type": content_type} if content_type else {})

    answer = await client.post(endpoint, content=json.dumps(DATA[endpoint]).encode(), headers=headers)

    [received] = broker.events(EventReceived.topic) + broker.events(LabelReceived.topic)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "ids": ["e1" if "ev" in endpoint else "s1"]})
    assert received.subject == "s1"


async def test_every_mode_publishes_the_same_event(client: httpx.AsyncClient, broker: MemoryBroker) -> None:
    event = EVENT | {"time": "2024-05-01T12:00:00Z", "traceparent": TRACE}
    coded = {k: v for k, v in event.items() if k != "data"}
    coded["data_base64"] = base64.b64encode(json.dumps(event["data"]).encode()).decode()
    binary = BINARY | {"ce-time": "2024-05-01t12:00:00z", "ce-traceparent": TRACE}

    answers = [await client.post("/events", json=event["data"], headers=binary)]
    for kind, body in (
        (STRUCTURED, event),
        (STRUCTURED, coded),
        ("application/json", event),
        (NDJSON, event),
        (BATCH, [event]),
        ("application/json", [event]),
        ("application/cloudevents+json; charset=UTF-8", event | {"datacontenttype": None, "dataschema": None}),
    ):
        content = json.dumps(body).encode()
        answers.append(await client.post("/events", content=content, headers={"content-type": kind}))

    assert [(a.status_code, a.json()["ids"]) for a in answers] == [(202, ["e1"])] * len(answers)
    wires = bodies_of(broker.events(EventReceived.topic))
    assert all(wire == wires[0] for wire in wires)
    assert (wires[0]["traceparent"], wires[0]["data"]["entity"]) == (TRACE, "s1")


async def test_extensions_are_no_reason_to_refuse(client: httpx.AsyncClient, broker: MemoryBroker) -> None:
    extensions = {
        "dataschema": "https://shop.example/order",
        "partitionkey": "k",
        "sequence": "7",
        "correlationid": "c",
    }
    headers = {f"ce-{name}": value for name, value in extensions.items()} | {"traceparent": TRACE}

    binary = await client.post("/events", json={"price": 1}, headers=BINARY | headers)
    structured = await client.post(
        "/events", json=EVENT | extensions | {"id": "e2", "traceparent": "none"}, headers={"traceparent": TRACE}
    )

    assert (binary.status_code, structured.status_code) == (202, 202)
    assert [e.traceparent for e in broker.events(EventReceived.topic)] == [TRACE, TRACE]


@pytest.mark.parametrize("endpoint", list(DATA))
async def test_an_empty_batch_is_accepted_and_any_other_empty_request_is_not(
    client: httpx.AsyncClient, endpoint: str
) -> None:
    empty = await client.post(endpoint, content=b" [ ] ", headers={"content-type": BATCH})
    others = [
        await client.post(endpoint, content=b"[]", headers={"content-type": kind})
        for kind in ("application/json", NDJSON)
    ]

    assert (empty.status_code, empty.json()) == (202, {"accepted": 0, "ids": []})
    assert [a.status_code for a in others] == [422, 422]


@pytest.mark.parametrize(
    ("changes", "body", "status", "expected"),
    [
        ({"ce-specversion": None}, b"{}", 422, "ce-specversion"),
        ({"ce-specversion": "0.3"}, b"{}", 422, "'0.3'"),
        ({"ce-specversion": "2.0"}, b"{}", 422, "'2.0'"),
        ({"ce-id": ""}, b"{}", 422, "ce-id"),
        ({"ce-source": None}, b"{}", 422, "ce-source"),
        ({"ce-type": None}, b"{}", 422, "ce-type"),
        ({"ce-subject": ""}, b'{"price": 1}', 422, "ce-subject"),
        ({"ce-subject": "%20a"}, b'{"price": 1}', 422, "ce-subject"),
        ({"ce-subject": "%C0%A0"}, b'{"price": 1}', 400, "ce-subject"),
        ({"ce-time": "noon"}, b'{"price": 1}', 422, "ce-time"),
        ({"ce-time": "2099-01-01T00:00:00Z"}, b'{"price": 1}', 422, "time"),
        ({}, b'{"price": "high"}', 422, "data.price"),
        ({}, b'{"price": 1, "price": 2}', 400, "'price' is there twice"),
        ({}, b"", 400, "JSON"),
        ({"content-type": "text/plain"}, b'{"price": 1}', 415, "text/plain"),
        ({"content-type": "application/xml"}, b"<a/>", 415, "application/xml"),
        ({"content-type": NDJSON}, b'{"price": 1}', 415, NDJSON),
        ({"content-type": "application/yaml"}, b"price: 1", 415, "application/yaml"),
        ({"content-type": "application/cloudevents+avro"}, b"\x00", 415, "application/cloudevents+avro"),
    ],
)
async def test_what_is_wrong_in_binary_mode_is_named_by_its_header(
    client: httpx.AsyncClient,
    broker: MemoryBroker,
    changes: dict[str, str | None],
    body: bytes,
    status: int,
    expected: str,
) -> None:
    headers = {name: value for name, value in (BINARY | changes).items() if value is not None}

    answer = await client.post("/events", content=body, headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert expected in answer.text
    assert broker.events(EventReceived.topic) == []


async def test_a_repeated_header_is_refused(client: httpx.AsyncClient, broker: MemoryBroker) -> None:
    answer = await client.post("/events", json={"price": 1}, headers=[*BINARY.items(), ("Ce-Id", "e2")])

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "ce-id")
    assert broker.events(EventReceived.topic) == []


@pytest.mark.parametrize(
    ("kind", "body", "status", "expected"),
    [
        (STRUCTURED, [EVENT], 400, BATCH),
        (BATCH, EVENT, 400, STRUCTURED),
        (STRUCTURED, EVENT | {"subject": "\u0000"}, 422, "subject"),
        (STRUCTURED, EVENT | {"data_base64": "e30="}, 422, "beside data"),
        ("application/json", EVENT | {"specversion": "0.3"}, 422, "'0.3'"),
        ("application/json", EVENT | {"specversion": None}, 422, "specversion"),
        ("application/json", EVENT | {"data": "{}"}, 422, "data must be an object"),
        ("application/json", EVENT | {"time": "2024-05-01T12:00:00"}, 422, "offset"),
    ],
)
async def test_what_is_wrong_with_a_structured_event_is_named(
    client: httpx.AsyncClient, kind: str, body: Any, status: int, expected: str
) -> None:
    answer = await client.post("/events", content=json.dumps(body).encode(), headers={"content-type": kind})

    assert answer.status_code == status
    assert expected in answer.json()["detail"]


async def test_structured_mode_does_not_look_at_the_headers(client: httpx.AsyncClient, broker: MemoryBroker) -> None:
    headers = {"content-type": STRUCTURED, "ce-specversion": "0.3", "ce-id": "%ff"}

    answer = await client.post("/events", content=json.dumps(EVENT).encode(), headers=headers)

    assert (answer.status_code, answer.json()["ids"]) == (202, ["e1"])


async def test_of_a_thousand_events_of_a_batch_the_bad_one_is_named_and_the_others_are_accepted(
    client: httpx.AsyncClient, broker: MemoryBroker
) -> None:
    batch: list[Any] = [EVENT | {"id": f"e{n}"} for n in range(1_000)]
    batch[500] = batch[500] | {"source": None}

    answer = await client.post("/events", content=json.dumps(batch).encode(), headers={"content-type": BATCH})

    body = answer.json()
    assert (answer.status_code, body["accepted"]) == (207, 999)
    assert [(r["index"], r["id"], r["errors"][0]["field"]) for r in body["rejected"]] == [(500, "e500", "source")]
    assert len(broker.events(EventReceived.topic)) == 999


async def test_lines_may_mix_events_of_every_kind_and_a_batch_within_a_line_is_refused(
    client: httpx.AsyncClient, broker: MemoryBroker
) -> None:
    lines: list[Any] = [EVENT, {"id": "plain", "data": {"price": 2}}, [EVENT], EVENT | {"id": "e2", "specversion": "3"}]

    answer = await client.post(
        "/events", content="\n".join(map(json.dumps, lines)).encode(), headers={"content-type": NDJSON}
    )

    body = answer.json()
    assert (answer.status_code, body["ids"]) == (207, ["e1", "plain"])
    assert [(r["index"], r["errors"][0]["field"]) for r in body["rejected"]] == [(2, "body"), (3, "specversion")]


async def test_limits_are_those_of_the_other_formats(start_ingest: StartIngest, broker: MemoryBroker) -> None:
    async with start_ingest(max_event_bytes=1_000, max_events_per_request=3) as client:
        batch = json.dumps([EVENT] * 4).encode()
        many = await client.post("/events", content=batch, headers={"content-type": BATCH})
        large = await client.post("/events", json={"price": 1, "x": "x" * 1_000}, headers=BINARY)
        long = EVENT | {"subject": "s" * 2_000}
        structured = await client.post("/events", content=json.dumps(long), headers={"content-type": STRUCTURED})

    assert [a.status_code for a in (many, large, structured)] == [413, 413, 413]
    assert broker.events(EventReceived.topic) == []


@pytest.mark.parametrize(
    ("data", "subject", "field"),
    [
        ({"label": True}, None, "subject"),
        ({"label": True, "id": "other"}, "s1", "subject"),
        ([], "s1", "data"),
        ({}, "s1", "label"),
        ({"label": True, "colour": 1}, "s1", "colour"),
    ],
)
async def test_a_label_needs_one_prediction_id_and_an_object(
    client: httpx.AsyncClient, data: Any, subject: str | None, field: str
) -> None:
    answer = await client.post("/labels", json=EVENT | {"data": data, "subject": subject})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


@pytest.mark.parametrize(
    "time",
    [
        "2024-05-01t12:00:00z",
        "2024-05-01 12:00:00Z",
        "2024-05-01T12:00:00.123456789Z",
        "2024-05-01T12:00:00.1-00:00",
        "2016-12-31T23:59:60Z",
        "2016-12-31t18:59:60.25-05:00",
    ],
)
@pytest.mark.parametrize("endpoint", list(DATA))
async def test_every_time_of_rfc_3339_is_read(client: httpx.AsyncClient, endpoint: str, time: str) -> None:
    data: dict[str, Any] = DATA[endpoint]
    plain = {"data": data} if endpoint == "/events" else {"id": "p", **data}
    event = EVENT | {"data": data, "time": time}

    answers = [await client.post(endpoint, json=body) for body in (plain | {"time": time}, event)]

    assert [a.status_code for a in answers] == [202, 202], answers[0].text
