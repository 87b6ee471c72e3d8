"""Ingest over HTTP: requests, responses, and the events that are published."""

from __future__ import annotations

import asyncio
import gzip
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_shared.access.identity import Grant, Identity, acting_for
from everloop_shared.clock import system_clock
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.memory import MemoryBroker, MemoryEngine
from everloop_shared.messaging.routes import EngineFactory

JSON = {"content-type": "application/json"}
GOOD = {"data": {"price": 1.5, "demand": 2}}
GOOD_AT: dict[str, dict[str, Any]] = {
    "/events": GOOD,
    "/labels": {"id": "p", "label": True},
    "/feedback": {"id": "p", "correct": True},
}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CLOUDEVENT = {
    "specversion": "1.0",
    "id": "ce-1",
    "source": "/shop",
    "type": "order",
    "subject": "shop-3",
    "time": "2024-05-01T12:00:00Z",
    "data": {"price": 1.0},
}
StartIngest = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


async def test_an_event_is_accepted_and_published_under_its_own_id(
    client: httpx.AsyncClient, broker: MemoryBroker
) -> None:
    event = {"id": "mine-1", "entity": "shop-3", "time": "2024-05-01T12:00:00+02:00", **GOOD}

    answer = await client.post("/events", json=event, headers={"traceparent": TRACE})

    [received] = broker.events(EventReceived.topic)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "ids": ["mine-1"]})
    assert (received.id, received.subject, received.loop, received.revision) == ("mine-1", "shop-3", "market", 3)
    assert received.time.isoformat() == "2024-05-01T10:00:00+00:00"
    assert (received.data.entity, received.data.fields) == ("shop-3", {"price": 1.5, "demand": 2})
    assert received.traceparent == TRACE


async def test_a_missing_id_entity_or_optional_field_gets_a_default(
    client: httpx.AsyncClient, broker: MemoryBroker
) -> None:
    answer = await client.post("/events", json={"data": {"price": 1}})

    [received] = broker.events(EventReceived.topic)
    assert answer.json()["ids"] == [received.id]
    assert (received.subject, received.data.fields) == ("default", {"price": 1, "demand": None})


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", json.dumps([GOOD, GOOD]).encode()),
        ("application/x-ndjson", b'{"data": {"price": 1}}\n\r\n{"data": {"price": 2}}\r\n'),
        ("application/cloudevents-batch+json", json.dumps([CLOUDEVENT, CLOUDEVENT | {"id": "ce-2"}]).encode()),
        (
            "application/json; charset=utf-8",
            b"  [" + json.dumps(GOOD).encode() + b"," + json.dumps(GOOD).encode() + b"]",
        ),
    ],
)
async def test_every_content_type_carries_many_events(
    client: httpx.AsyncClient, broker: MemoryBroker, content_type: str, body: bytes
) -> None:
    answer = await client.post("/events", content=body, headers={"content-type": content_type})

    assert (answer.status_code, answer.json()["accepted"]) == (202, 2)
    assert {e.id for e in broker.events(EventReceived.topic)} == set(answer.json()["ids"])


async def test_a_cloudevent_is_an_event_of_its_subject(client: httpx.AsyncClient, broker: MemoryBroker) -> None:
    event = json.dumps(CLOUDEVENT | {"traceparent": TRACE}).encode()

    answer = await client.post("/events", content=event, headers={"content-type": "application/cloudevents+json"})

    [received] = broker.events(EventReceived.topic)
    assert answer.status_code == 202
    assert (received.id, received.subject, received.data.fields["price"], received.traceparent) == (
        "ce-1",
        "shop-3",
        1.0,
        TRACE,
    )


@pytest.mark.parametrize(
    ("body", "content_type", "status", "field", "expected"),
    [
        ({"data": {"demand": 1}}, None, 422, "data.price", "missing"),
        ({"data": {"price": "high"}}, None, 422, "data.price", "number"),
        ({"data": {"price": True}}, None, 422, "data.price", "number"),
        ({"data": {"price": 1, "colour": 2}}, None, 422, "data.colour", "schema"),
        ({"id": 7, **GOOD}, None, 422, "id", "text"),
        ({"id": "", **GOOD}, None, 422, "id", "text"),
        ({"entity": ["a"], **GOOD}, None, 422, "entity", "text"),
        ({"time": "yesterday", **GOOD}, None, 422, "time", "RFC 3339"),
        ({"time": "2024-05-01T12:00:00", **GOOD}, None, 422, "time", "offset"),
        ({"datas": {}}, None, 422, "datas", "not known"),
        ("text", None, 422, "body", "object"),
        (b'{"data": {"price": NaN}}', None, 400, None, "JSON"),
        (b'{"data": {"price": 1e999}}', None, 422, "data.price", "finite"),
        (b'{"data": ', None, 400, None, "JSON"),
        (b"", None, 400, None, "JSON"),
        (b"[]", None, 422, None, "nothing"),
        (b"\n \n", "application/x-ndjson", 422, None, "nothing"),
        (b"[" * 10_000, None, 400, None, "recursion"),
        (b'{"id": "\\ud800", "data": {"price": 1}}', None, 400, None, "JSON"),
        (b"\xff\xfe", None, 400, None, "JSON"),
        (b"<a/>", "application/xml", 415, None, "application/json"),
        (b'{"data": {"price": 1, "price": 2}}', None, 400, None, "'price' is there twice"),
        (b'{"id": "a", "id": "b", "data": {"price": 1}}', None, 400, None, "'id' is there twice"),
        (b'[{"data": {"price": 1}}, {"data": {"price": 1}, "data": {"price": 2}}]', None, 400, None, "'data' is"),
        (b'{"data": {"price": 1, "price" : 2}}', "application/x-ndjson", 422, "line", "'price' is there twice"),
        (b'{"id": "1", "id": "2"}', "application/cloudevents+json", 400, None, "'id' is there twice"),
        ({"id": "a\x00b", **GOOD}, None, 422, "id", "control characters"),
        ({"id": "a\x85b", **GOOD}, None, 422, "id", "control characters"),
        ({"id": "a\u2028b", **GOOD}, None, 422, "id", "control characters"),
        ({"id": " a", **GOOD}, None, 422, "id", "white space"),
        ({"entity": "a\n", **GOOD}, None, 422, "entity", "white space"),
        ({"id": "i" * 257, **GOOD}, None, 422, "id", "256"),
        ({**CLOUDEVENT, "datacontenttype": "text/csv"}, "application/cloudevents+json", 422, "datacontenttype", "json"),
        ({**CLOUDEVENT, "datacontenttype": 7}, "application/cloudevents+json", 422, "datacontenttype", "json"),
        ({**CLOUDEVENT, "data_base64": "e30="}, "application/cloudevents+json", 422, "data_base64", "in data"),
        ({**CLOUDEVENT, "specversion": "0.3"}, "application/cloudevents+json", 422, "specversion", "1.0"),
        ({k: v for k, v in CLOUDEVENT.items() if k != "id"}, "application/cloudevents+json", 422, "id", "missing"),
        ({"data": {"price": 1}}, "application/cloudevents-batch+json", 400, None, "list"),
    ],
)
async def test_bad_input_is_refused_with_field_and_fix_and_the_next_request_is_accepted(
    client: httpx.AsyncClient,
    broker: MemoryBroker,
    body: Any,
    content_type: str | None,
    status: int,
    field: str | None,
    expected: str,
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    refused = await client.post(
        "/events", content=content, headers={"content-type": content_type or "application/json"}
    )
    after = await client.post("/events", json=GOOD)

    problem = refused.json()
    assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
    assert expected in refused.text
    assert field is None or problem["errors"][0]["field"] == field
    assert after.status_code == 202
    assert len(broker.events(EventReceived.topic)) == 1


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.shop+json", "Application/JSON"])
async def test_the_data_of_a_cloudevent_may_be_any_json(client: httpx.AsyncClient, kind: str) -> None:
    event = json.dumps({**CLOUDEVENT, "datacontenttype": kind}).encode()

    answer = await client.post("/events", content=event, headers={"content-type": "application/cloudevents+json"})

    assert answer.status_code == 202


async def test_in_binary_mode_the_headers_are_the_event_and_the_body_is_its_data(
    client: httpx.AsyncClient, broker: MemoryBroker
) -> None:
    event = {"ce-specversion": "1.0", "ce-source": "/shop", "ce-type": "order", "traceparent": TRACE}
    about = event | {"ce-id": "bin%2F1", "ce-subject": "caf%C3%A9%20%22Z%22", "ce-time": "2024-05-01T12:00:00Z"}

    answer = await client.post("/events", json={"price": 2}, headers=about)
    label = await client.post("/labels", json={"label": True}, headers=event | {"ce-id": "l1", "ce-subject": "bin%2F1"})

    [received] = broker.events(EventReceived.topic)
    [label_event] = broker.events(LabelReceived.topic)
    assert (answer.status_code, answer.json()["ids"]) == (202, ["bin/1"])
    assert (received.subject, received.data.fields["price"], received.time.year) == ('café "Z"', 2, 2024)
    assert received.traceparent == TRACE
    assert (label.status_code, label_event.subject, label_event.data.label) == (202, "bin/1", True)


@pytest.mark.parametrize(
    ("headers", "body", "status", "expected"),
    [
        ({"ce-specversion": "1.0", "ce-type": "order"}, b"{}", 422, "id"),
        ({"ce-specversion": "0.3", "ce-id": "a", "ce-source": "/", "ce-type": "t"}, b"{}", 422, "specversion"),
        ({"ce-specversion": "1.0", "ce-id": "%ff", "ce-source": "/", "ce-type": "t"}, b"{}", 400, "percent-encoded"),
        ({"ce-specversion": "1.0", "ce-id": b"caf\xc3\xa9", "ce-source": "/", "ce-type": "t"}, b"{}", 400, "ce-id"),
        ({"ce-specversion": "1.0", "ce-id": "a%00b", "ce-source": "/", "ce-type": "t"}, b"{}", 422, "control"),
        ({"ce-specversion": "1.0", "ce-id": "a", "ce-source": "/", "ce-type": "t"}, b"[{}]", 422, "object"),
    ],
)
async def test_a_malformed_event_in_binary_mode_names_the_header(
    client: httpx.AsyncClient, headers: dict[str, Any], body: bytes, status: int, expected: str
) -> None:
    answer = await client.post("/events", content=body, headers={"content-type": "application/json", **headers})

    assert answer.status_code == status
    assert expected in answer.text


async def test_a_byte_order_mark_is_skipped_and_gzip_is_read_within_limits(
    start_ingest: StartIngest, broker: MemoryBroker
) -> None:
    plain = {"content-type": "application/json"}
    packed = plain | {"content-encoding": "gzip"}
    async with start_ingest(max_body_bytes=10_000) as client:
        marked = await client.post("/events", content=b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), headers=plain)
        small = await client.post("/events", content=gzip.compress(json.dumps([GOOD, GOOD]).encode()), headers=packed)
        bomb = await client.post("/events", content=gzip.compress(b" " * 1_000_000), headers=packed)
        other = await client.post("/events", content=b"{}", headers=plain | {"content-encoding": "zstd"})

    assert [a.status_code for a in (marked, small, bomb, other)] == [202, 202, 413, 415]
    assert "zstd" in other.text
    assert len(broker.events(EventReceived.topic)) == 3


@pytest.mark.parametrize("name", ["a/b", "100%", "a?b#c", "../x", "ü€😀", "@a", "[1]", '{"x"}', "a b", ":", "%2F"])
async def test_an_id_of_any_visible_characters_is_accepted(
    client: httpx.AsyncClient, broker: MemoryBroker, name: str
) -> None:
    answer = await client.post("/events", json={"id": name, "entity": name, **GOOD})

    [received] = broker.events(EventReceived.topic)
    assert (answer.status_code, received.id, received.subject) == (202, name, name)


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
async def test_an_observation_is_published_alike_whether_or_not_others_of_its_request_fit(
    client: httpx.AsyncClient, broker: MemoryBroker, kind: str
) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "entity": "é", "time": "2024-05-01t12:00:00.5z", "data": {"price": 1}},
        {"id": "a:", "data": {"price": 1.5, "demand": None}},
        {"id": 'a":', "time": None, "data": {"demand": -0.0, "price": 1e300}},
    ]

    for sent in (rows, [*rows, {"data": {}}]):
        content = "\n".join(map(json.dumps, sent)) if "nd" in kind else json.dumps(sent)
        answer = await client.post("/events", content=content.encode(), headers={"content-type": kind})
        assert (answer.status_code, answer.json()["accepted"]) == (202 if sent is rows else 207, 3)

    found: dict[str, list[Any]] = {}
    for event in broker.events(EventReceived.topic):
        found.setdefault(event.id, []).append((event.subject, event.data.fields, event.time if "a" == event.id else 0))
    assert len(found) == 3
    assert all(first == second for first, second in found.values())


async def test_a_mixed_batch_reports_the_rejected_entries(client: httpx.AsyncClient, broker: MemoryBroker) -> None:
    answer = await client.post("/events", json=[{"id": "a", **GOOD}, {"id": "b", "data": {}}, {"id": "c", **GOOD}])

    body = answer.json()
    assert (answer.status_code, body["accepted"], body["ids"]) == (207, 2, ["a", "c"])
    assert [(r["index"], r["id"], r["errors"][0]["field"]) for r in body["rejected"]] == [(1, "b", "data.price")]
    assert len(broker.events(EventReceived.topic)) == 2


async def test_a_malformed_line_affects_only_its_own_entry(client: httpx.AsyncClient) -> None:
    lines = b'{"data": {"price": 1}}\n{"data": \n{"data": {"price": 2}}'

    answer = await client.post("/events", content=lines, headers={"content-type": "application/x-ndjson"})

    assert (answer.status_code, answer.json()["accepted"]) == (207, 2)
    assert [(r["index"], r["errors"][0]["field"]) for r in answer.json()["rejected"]] == [(1, "line")]


async def test_a_batch_without_a_valid_event_is_422_and_lists_all_of_them(client: httpx.AsyncClient) -> None:
    answer = await client.post("/events", json=[{"data": {}}, {"data": {"price": "x"}}])

    assert (answer.status_code, answer.json()["accepted"]) == (422, 0)
    assert [r["index"] for r in answer.json()["rejected"]] == [0, 1]


@pytest.mark.parametrize("endpoint", ["/events", "/labels", "/feedback"])
async def test_an_unknown_loop_is_404(client: httpx.AsyncClient, endpoint: str) -> None:
    answer = await client.post(f"http://localhost/v1/loops/nowhere{endpoint}", json=GOOD)

    assert answer.status_code == 404
    assert "loop" in answer.json()["detail"]


async def test_limits_answer_413(start_ingest: StartIngest) -> None:
    async with start_ingest(max_body_bytes=2_000, max_event_bytes=1_000, max_events_per_request=3) as client:
        too_long = await client.post("/events", content=b'{"data": "' + b"x" * 3_000 + b'"}', headers=JSON)
        too_big = await client.post("/events", content=b'{"data": "' + b"x" * 1_500 + b'"}', headers=JSON)
        too_many = await client.post("/events", json=[GOOD] * 4)
        too_many_lines = await client.post(
            "/events", content=b"{}\n" * 4, headers={"content-type": "application/x-ndjson"}
        )
        good = await client.post("/events", json=[GOOD] * 3)

    assert [a.status_code for a in (too_long, too_big, too_many, too_many_lines, good)] == [413, 413, 413, 413, 202]


async def test_a_body_that_never_ends_is_408(start_ingest: StartIngest) -> None:
    async def dripping() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with start_ingest(body_timeout_s=0.05) as client:
        answer = await client.post("/events", content=dripping(), headers=JSON)

    assert answer.status_code == 408


class SlowEngine(MemoryEngine):
    """A broker that acknowledges nothing until the test sets `acknowledge`."""

    acknowledge = asyncio.Event()
    reached = asyncio.Event()

    async def publish(self, events: Sequence[Event]) -> None:
        """Wait, then append."""
        if events:
            self.reached.set()
            await self.acknowledge.wait()
        await super().publish(events)


class UnreachableEngine(MemoryEngine):
    """A broker that cannot be reached."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Fail as the real engine does."""
        if events:
            raise Unavailable("the broker is unreachable")


def _engine_factory(broker: MemoryBroker, engine: type[MemoryEngine]) -> EngineFactory:
    return lambda service: engine(broker, service)


async def test_the_rows_of_a_caller_are_limited_for_all_endpoints_together(start_ingest: StartIngest) -> None:
    lines = {"content-type": "application/x-ndjson"}
    async with start_ingest(limit_rows_per_s=0.01, limit_burst_s=500) as client:
        first = await client.post("/events", json=[GOOD] * 3)
        second = await client.post("/events", content=b'{"data": {}}\n' * 3, headers=lines)
        refused = await client.post("/labels", json=[GOOD])

    assert (first.status_code, second.status_code, refused.status_code) == (202, 422, 429)
    assert refused.json()["errors"] == [{"field": "rows_per_s", "error": "at most 0.01 rows per second"}]
    assert int(refused.headers["retry-after"]) > 100


@pytest.mark.promise(12)
async def test_events_without_an_acknowledgement_are_limited_and_further_requests_are_429(
    start_ingest: StartIngest, broker: MemoryBroker
) -> None:
    SlowEngine.acknowledge, SlowEngine.reached = asyncio.Event(), asyncio.Event()
    async with start_ingest(connect=_engine_factory(broker, SlowEngine), max_unacked_events=2) as client:
        waiting = asyncio.create_task(client.post("/events", json=[GOOD, GOOD]))
        await SlowEngine.reached.wait()
        refused = await client.post("/events", json=GOOD)
        SlowEngine.acknowledge.set()
        accepted = await waiting
        after = await client.post("/events", json=GOOD)

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert (accepted.status_code, after.status_code) == (202, 202)
    assert len(broker.events(EventReceived.topic)) == 3


async def test_an_unreachable_broker_is_503_and_never_202(start_ingest: StartIngest, broker: MemoryBroker) -> None:
    async with start_ingest(connect=_engine_factory(broker, UnreachableEngine)) as client:
        answer = await client.post("/events", json=GOOD)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert broker.events(EventReceived.topic) == []


async def test_a_label_and_feedback_name_their_prediction(client: httpx.AsyncClient, broker: MemoryBroker) -> None:
    label = await client.post("/labels", json={"id": "p1", "label": 1})
    entries = [{"id": "p2", "correct": False, "comment": "no", "source": "counter-2"}, {"id": "p3", "label": False}]
    feedback = await client.post("/feedback", json=entries)
    with acting_for(Identity("ada", "key", "evl_1", (Grant("labeler"),))):
        await client.post("/labels", json={"id": "p4", "label": 1})

    labels = [e for e in broker.events(LabelReceived.topic) if isinstance(e, LabelReceived)]
    known = {e.subject: (e.actor, e.actor_kind, e.actor_source) for e in labels}
    assert (known["p4"], known["p1"]) == (("ada", "key", "evl_1"), (None, None, None))
    received = {e.subject: e.data for e in broker.events(LabelReceived.topic)}
    assert (label.status_code, label.json()) == (202, {"accepted": 1, "ids": ["p1"]})
    assert (feedback.status_code, feedback.json()["ids"]) == (202, ["p2", "p3"])
    assert (received["p1"].kind, received["p1"].label) == ("label", True)
    assert (received["p2"].kind, received["p2"].correct, received["p2"].comment, received["p2"].source) == (
        "feedback",
        False,
        "no",
        "counter-2",
    )
    assert (received["p3"].kind, received["p3"].label, received["p3"].correct) == ("feedback", False, None)


async def test_the_same_label_under_the_same_key_is_the_same_event_and_another_is_not(
    client: httpx.AsyncClient, broker: MemoryBroker
) -> None:
    label_of_p1 = {"id": "p1", "key": "mine"}
    for label in (True, True, 1, False):
        await client.post("/labels", json=label_of_p1 | {"label": label})
    await client.post("/labels", json=label_of_p1 | {"label": True, "time": "2024-05-01T12:00:00Z"})
    await client.post("/labels", json=label_of_p1 | {"label": True, "key": "another"})

    ids = [e.id for e in broker.events(LabelReceived.topic)]
    assert len(ids) == 6
    assert len(set(ids)) == 4


async def test_without_a_key_each_label_is_an_event_of_its_own_in_the_order_of_the_request(
    client: httpx.AsyncClient, broker: MemoryBroker
) -> None:
    await client.post("/labels", json=[{"id": "p1", "label": label} for label in (True, False, True)])

    events = broker.events(LabelReceived.topic)
    assert [e.data.label for e in events if isinstance(e, LabelReceived)] == [True, False, True]
    assert len({e.id for e in events}) == 3


async def test_a_repeated_cloudevent_is_the_same_label(client: httpx.AsyncClient, broker: MemoryBroker) -> None:
    event = CLOUDEVENT | {"subject": "p9", "data": {"label": True}}
    for id in ("ce-1", "ce-1", "ce-2"):
        content = json.dumps(event | {"id": id}).encode()
        await client.post("/labels", content=content, headers={"content-type": "application/cloudevents+json"})

    ids = [e.id for e in broker.events(LabelReceived.topic)]
    assert (ids[0] == ids[1], ids[1] == ids[2]) == (True, False)


@pytest.mark.parametrize("time", ["2099-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"])
@pytest.mark.parametrize("endpoint", ["/events", "/labels", "/feedback"])
async def test_a_time_in_the_future_is_refused_by_every_endpoint(
    client: httpx.AsyncClient, endpoint: str, time: str
) -> None:
    answer = await client.post(endpoint, json={**GOOD_AT[endpoint], "time": time})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "time"


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z"])
async def test_a_time_before_all_history_is_refused_in_every_form(client: httpx.AsyncClient, time: str) -> None:
    plain = await client.post("/events", json=[GOOD, GOOD | {"time": time}])
    lines = await client.post(
        "/labels",
        content=json.dumps({"id": "p", "label": True, "time": time}).encode(),
        headers={"content-type": "application/x-ndjson"},
    )
    cloud = await client.post(
        "/events",
        content=json.dumps(CLOUDEVENT | {"time": time}).encode(),
        headers={"content-type": "application/cloudevents+json"},
    )

    assert (plain.status_code, plain.json()["rejected"][0]["index"]) == (207, 1)
    assert [a.status_code for a in (lines, cloud)] == [422, 422]
    assert {a.json()["errors"][0]["field"] for a in (lines, cloud)} == {"time"}


async def test_the_limits_of_times_are_settings(start_ingest: StartIngest) -> None:
    async with start_ingest(earliest_time="1850-01-01T00:00:00Z", max_future_s=86_400) as client:
        old = await client.post("/events", json=GOOD | {"time": "1851-01-01T00:00:00Z"})
        soon = await client.post("/events", json=GOOD | {"time": (system_clock() + timedelta(hours=2)).isoformat()})

    assert (old.status_code, soon.status_code) == (202, 202)


async def test_a_label_without_a_time_carries_that_of_its_arrival(
    client: httpx.AsyncClient, broker: MemoryBroker
) -> None:
    await client.post("/labels", json={"id": "p1", "label": True})

    [received] = broker.events(LabelReceived.topic)
    assert isinstance(received, LabelReceived)
    assert received.time == received.data.received


async def test_a_cloudevent_carries_a_label_about_its_subject(client: httpx.AsyncClient, broker: MemoryBroker) -> None:
    event = CLOUDEVENT | {"subject": "p9", "data": {"label": True}}

    answer = await client.post(
        "/labels", content=json.dumps(event).encode(), headers={"content-type": "application/cloudevents+json"}
    )

    [received] = broker.events(LabelReceived.topic)
    assert (answer.status_code, received.subject, received.data.label) == (202, "p9", True)


async def test_the_revision_of_a_loop_is_reported_once_its_state_has_arrived(
    client: httpx.AsyncClient, broker: MemoryBroker, state: Callable[..., Event]
) -> None:
    before = await client.get("http://localhost/v1/loops/market")
    newer = state(4)

    await broker.append(newer.topic.name, newer.key(), newer.encode())

    async with asyncio.timeout(5):
        while (after := await client.get("http://localhost/v1/loops/market")).json()["revision"] != 4:
            await asyncio.sleep(0)
    assert before.json() == {"loop": "market", "revision": 3}
    assert after.json() == {"loop": "market", "revision": 4}
    assert (await client.get("http://localhost/v1/loops/nowhere")).status_code == 404


async def test_an_observation_that_is_not_as_the_loop_expects_is_refused_with_the_reason(
    start_ingest: StartIngest, broker: MemoryBroker
) -> None:
    expect = [{"field": "price", "between": [0, 10], "then": "dead_letter"}, {"field": "demand", "between": [0, 1]}]
    async with start_ingest(spec={"expect": expect}) as client:
        alone = await client.post("/events", json={"data": {"price": 11.0}})
        mixed = await client.post("/events", json=[{"data": {"price": 1.0, "demand": 9.0}}, {"data": {"price": -1.0}}])

    [error] = alone.json()["errors"]
    assert (alone.status_code, error["field"]) == (422, "data.price")
    assert error["error"] == "is expected to be between 0 and 10; the loop refuses other values"
    assert (mixed.status_code, mixed.json()["accepted"]) == (207, 1)
    assert [event.data.fields["demand"] for event in broker.events(EventReceived.topic)] == [9.0]
    letters = broker.events(DEAD_LETTERS["ingest"].topic)
    assert [EventReceived.decode(b64decode(letter.data.value)).data.fields["price"] for letter in letters] == [11, -1]
    assert [letter.data.unexpected for letter in letters] == [{"price.between": 1}] * 2


async def test_what_does_not_fit_the_schema_or_has_a_wrong_time_is_no_dead_letter(
    start_ingest: StartIngest, broker: MemoryBroker
) -> None:
    expect = [{"field": "price", "between": [0, 10], "then": "dead_letter"}]
    async with start_ingest(spec={"expect": expect}) as client:
        malformed = await client.post("/events", json={"data": {"price": "high"}})
        early = await client.post("/events", json={"time": "1901-01-01T00:00:00Z", "data": {"price": 11.0}})

    assert (malformed.status_code, early.status_code) == (422, 422)
    assert [error["field"] for error in early.json()["errors"]] == ["time", "data.price"]
    assert broker.events(DEAD_LETTERS["ingest"].topic) == []
