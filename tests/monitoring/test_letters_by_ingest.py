"""Dead letters that monitoring itself gives to ingest: at its one address, checked there, and once."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.access import add_key
from tests.builders.events import label_received, observation, prediction_made, rest_observation
from tests.builders.letters import letter_of, letter_of_record
from tests.builders.loops import LOOP
from tests.builders.running import run_until_exit
from tests.monitoring.http_receiver import http_receiver
from tests.monitoring.monitoring_service import RunningMonitoring, running, state

from everloop.local.ports import free_port
from everloop_ingest.app import build
from everloop_ingest.settings import IngestSettings
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.monitoring import DeadLetterSent
from everloop_schemas.serving import ObservationReceived
from everloop_shared.access.identity import Grant, Identity, acting_for
from everloop_shared.clock import system_clock
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.personal.records import with_token

pytestmark = pytest.mark.app
SOURCES = [{"name": "orders", "topic": "shop-orders", "events": {"id": "order", "fields": {"price": "total"}}}]
SPEC = {"schema": {"price": {"type": "number", "min": 0}}, "sources": SOURCES}
STATE = state(spec=SPEC)


@asynccontextmanager
async def with_ingest(
    tmp_path: Path, *letters: DeadLetter, own_token: Path | None = None, port: int = 0, **access: Any
) -> AsyncIterator[RunningMonitoring]:
    """Monitoring beside a real ingest, with these letters."""
    broker, port = MemoryBroker(), port or free_port()
    ingest = build(IngestSettings(data=tmp_path, port=port, instance="only", **access), broker.engine)
    await broker.append(STATE.topic.name, STATE.key(), STATE.encode())
    url = f"http://127.0.0.1:{port}/"
    async with run_until_exit(ingest), running(broker, tmp_path, token_file=own_token, ingest_url=url) as monitoring:
        await monitoring.publish(*letters)
        await monitoring.caught_up()
        yield monitoring


async def send(monitoring: RunningMonitoring, letter: DeadLetter, repaired: Any = None) -> httpx.Response:
    """Send it as it was, or as this value or these bytes."""
    raw = repaired if isinstance(repaired, bytes) else json.dumps(repaired).encode()
    body = {} if repaired is None else {"value": b64encode(raw).decode()}
    return await monitoring.http.post(f"/v1/dead-letters/{letter.id}/send", json=body)


async def shown(monitoring: RunningMonitoring, letter: DeadLetter) -> dict[str, Any]:
    """The letter as the page has it."""
    found: dict[str, Any] = (await monitoring.http.get(f"/v1/dead-letters/{letter.id}")).json()
    return found


async def test_a_record_is_refused_with_the_field_and_taken_once_it_is_repaired(tmp_path: Path) -> None:
    letter = letter_of(observation("order-1", {"price": -1.0}))
    async with with_ingest(tmp_path, letter) as monitoring:
        body = json.loads((await monitoring.http.get(f"/v1/dead-letters/{letter.id}/body")).content)
        refused = await send(monitoring, letter)
        open_ = await shown(monitoring, letter)
        repaired = {**body, "data": {"price": 3.5}}
        answers = [(await send(monitoring, letter, repaired)).json() for _ in (1, 2)]
        after = await shown(monitoring, letter)
        events = monitoring.published(EventReceived)

    assert (body["id"], body["data"]) == ("order-1", {"price": -1.0})
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"field": "data.price", "error": "must be at least 0"}]
    assert (open_["sent"], open_["by_command"]) == ([], False)
    to = f"ingest, /v1/loops/{LOOP}/events"
    assert answers == [{"id": letter.id, "sent": sent, "to": to, "event": "order-1"} for sent in (True, False)]
    assert [(sent["event"], sent["repaired"]) for sent in after["sent"]] == [("order-1", True)]
    assert [(event.id, event.data.fields) for event in events] == [("order-1", {"price": 3.5})]


async def test_a_record_with_sealed_values_is_not_sent_without_them_and_says_what_to_do(tmp_path: Path) -> None:
    sealed, by_rest = (with_token(one, "k1.token") for one in (observation("order-1", {}), rest_observation("order-2")))
    of_source = letter_of_record("shop-orders", b"k", b"{}", 1)
    held = {"key": None, "value": None, "headers": None, "personal": "k1.token", "reader": "orders"}
    of_source = of_source.copy_with(loop=LOOP, data=of_source.data.model_copy(update=held))
    by_service = letter_of(by_rest, 2)
    letters = letter_of(sealed), of_source, by_service

    async with with_ingest(tmp_path, *letters) as monitoring:
        pages = [await shown(monitoring, letter) for letter in letters]
        refused = [await send(monitoring, letter, repaired) for letter in letters[:2] for repaired in (None, {"id": 1})]
        sent = await send(monitoring, by_service)
        again = monitoring.published(ObservationReceived)

    assert [page["way"] for page in pages] == [None, None, "topic"]
    assert all("is sealed, and would be lost" in page["refused"] for page in pages[:2])
    assert {answer.status_code for answer in refused} == {409}
    assert sent.json()["sent"]
    assert [event.data.personal for event in again] == ["k1.token"]


async def test_labels_feedback_and_records_of_sources_go_by_their_own_endpoints(tmp_path: Path) -> None:
    label = letter_of(label_received("e1", True), 0)
    said = json.loads(label_received("e2").encode()) | {"data": {"prediction_id": "e2", "correct": False}}
    feedback = letter_of_record(LabelReceived.topic.name, None, json.dumps(said).encode(), 1)
    record = letter_of_record("shop-orders", None, b'{"order": 7, "total": 12}', 5, "ingest")
    record = record.copy_with(loop=LOOP, data=record.data.model_copy(update={"reader": "orders"}))
    async with with_ingest(tmp_path, label, feedback, record) as monitoring:
        answers = [(await send(monitoring, one)).json() for one in (label, feedback, record)]
        labels, events = monitoring.published(LabelReceived), monitoring.published(EventReceived)

    assert [answer["to"] for answer in answers] == [
        f"ingest, /v1/loops/{LOOP}/labels",
        f"ingest, /v1/loops/{LOOP}/feedback",
        f"ingest, source orders of loop {LOOP}",
    ]
    assert {(one.data.prediction_id, one.data.kind) for one in labels} == {("e1", "label"), ("e2", "feedback")}
    assert [(event.id, event.data.fields) for event in events] == [("7", {"price": 12})]


async def test_a_record_that_was_no_json_becomes_the_event_that_it_is_repaired_to(tmp_path: Path) -> None:
    letter = letter_of_record(EventReceived.topic.name, b"k", observation("e1", {"price": 1.0}).encode()[:-1])
    nothing = letter_of_record(EventReceived.topic.name, b"k", b"\xff", 1)
    async with with_ingest(tmp_path, letter, nothing) as monitoring:
        raw = (await monitoring.http.get(f"/v1/dead-letters/{letter.id}/body")).content
        answers = [
            await send(monitoring, letter, value) for value in (None, b"[1]", b'{"id": "e1", "data": {}}', raw + b"}")
        ]
        none = await send(monitoring, nothing)
        events = monitoring.published(EventReceived)

    assert [answer.status_code for answer in answers] == [422, 422, 422, 200]
    assert "no JSON object" in answers[0].json()["detail"]
    assert "everloop publish LOOP @FILE" in answers[2].json()["detail"]
    assert none.status_code == 422
    assert [(event.id, event.loop, event.data.fields) for event in events] == [("e1", LOOP, {"price": 1.0})]


async def test_where_ingest_is_away_or_something_else_answers_the_letter_stays_open(tmp_path: Path) -> None:
    letter = letter_of(observation("e1", {"price": 1.0}))
    with http_receiver() as other:
        other.answers, other.headers = [200, 302, 503], {"location": f"{other.url}/elsewhere"}
        async with running(MemoryBroker(), tmp_path, ingest_url=other.url) as monitoring:
            await monitoring.publish(STATE, letter)
            await monitoring.caught_up()
            answers = [await send(monitoring, letter) for _ in (1, 2, 3)]
            asked = [one.path for one in other.received]
    async with running(broker := MemoryBroker(), tmp_path / "away", ingest_url=other.url) as monitoring:
        await monitoring.publish(STATE, letter)
        await monitoring.caught_up()
        away, after = await send(monitoring, letter), await shown(monitoring, letter)

    assert [answer.status_code for answer in (*answers, away)] == [503] * 4
    assert "is not ingest" in answers[0].json()["detail"]
    assert asked == [f"/v1/loops/{LOOP}/events"] * 3
    assert "does not answer" in away.json()["detail"]
    assert after["sent"] == []
    assert broker.events(DeadLetterSent.topic) == []


async def test_ingest_asks_whoever_sends_the_letter_for_a_role_of_its_own(tmp_path: Path) -> None:
    letter = letter_of(observation("e1", {"price": 1.0}))
    with http_receiver() as ingest:
        ingest.answers = [401, 403]
        async with running(MemoryBroker(), tmp_path, ingest_url=ingest.url) as monitoring:
            await monitoring.publish(STATE, letter)
            await monitoring.caught_up()
            monitoring.http.headers["authorization"] = "Bearer evl_1"
            answers = [await send(monitoring, letter) for _ in (1, 2)]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert [one.headers["authorization"] for one in ingest.received] == ["Bearer evl_1"] * 2


async def test_what_strangers_write_into_letters_reaches_no_other_address(tmp_path: Path) -> None:
    letter = letter_of_record("shop-orders", None, b"{}", 0, "ingest")
    strange = [
        letter.copy_with(id=f"s{n}", loop=loop, data=letter.data.model_copy(update={"reader": reader, "value": value}))
        for n, (loop, reader, value) in enumerate(
            [(LOOP, "../../admin", None), ("../..", "orders", None), (LOOP, "a/b?c#d", None), (LOOP, "orders", "abcde")]
        )
    ]
    with http_receiver() as ingest:
        async with running(MemoryBroker(), tmp_path, ingest_url=ingest.url) as monitoring:
            await monitoring.publish(STATE, *strange)
            await monitoring.caught_up()
            answers = [await send(monitoring, one, {}) for one in strange]
            texts = [await shown(monitoring, one) for one in strange]

    assert [answer.status_code for answer in answers] == [409, 409, 409, 503]
    assert [one.path for one in ingest.received] == [f"/v1/loops/{LOOP}/sources/orders/records"]
    assert [text["text"] for text in texts] == [None] * 4


async def test_a_plan_says_where_a_record_would_go_and_sends_nothing(tmp_path: Path) -> None:
    letter = letter_of(label_received("e1", True))
    async with with_ingest(tmp_path, letter) as monitoring:
        plan = (await monitoring.http.post(f"/v1/dead-letters/{letter.id}/plan", json={})).json()
        after, labels = await shown(monitoring, letter), monitoring.published(LabelReceived)

    assert plan["request"]["path"] == f"/v1/loops/{LOOP}/labels"
    assert {name: plan["request"]["body"][name] for name in ("id", "label", "key")} == {
        "id": "e1",
        "label": True,
        "key": letter.id,
    }
    assert (plan["loop"], plan["repaired"], after["sent"], labels) == (LOOP, False, [], [])


@dataclass(frozen=True)
class Guarded:
    """Monitoring beside an ingest that asks for tokens, and an operator who sends letters."""

    monitoring: RunningMonitoring
    ingest: str
    token: str
    ops: Identity

    async def send(self, letter: DeadLetter, repaired: Any = None) -> httpx.Response:
        """Send it as the operator."""
        with acting_for(self.ops):
            return await send(self.monitoring, letter, repaired)


@asynccontextmanager
async def guarded(tmp_path: Path, *letters: DeadLetter) -> AsyncIterator[Guarded]:
    """The operator's own token is sent with each request; monitoring has a key of its own."""
    file, own, now = tmp_path / "keys.json", tmp_path / "monitoring.token", system_clock()
    own.write_text(add_key(file, "everloop/monitoring", "publisher", "labeler", now=now, kind="service"))
    token = add_key(file, "ops", "operator", now=now)
    ops = Identity("ops", "key", "evl_1", (Grant("operator"),))
    port, access = free_port(), {"auth": "on", "auth_keys": file}
    async with with_ingest(tmp_path, *letters, own_token=own, port=port, **access) as monitoring:
        monitoring.http.headers["authorization"] = f"Bearer {token}"
        yield Guarded(monitoring, f"http://127.0.0.1:{port}", f"Bearer {token}", ops)


async def test_an_operator_sends_letters_that_they_may_not_publish_by_themselves(tmp_path: Path) -> None:
    event, label = letter_of(observation("order-1", {"price": 1.0})), letter_of(label_received("e1", True), 1)
    record = letter_of_record("shop-orders", None, b'{"order": 7, "total": 12}', 5, "ingest")
    record = record.copy_with(loop=LOOP, data=record.data.model_copy(update={"reader": "orders"}))
    async with guarded(tmp_path, event, label, record) as made:
        with acting_for(made.ops):
            plans = [
                (await made.monitoring.http.post(f"/v1/dead-letters/{one.id}/plan", json={})).json()
                for one in (event, label, record)
            ]
        async with httpx.AsyncClient(headers={"authorization": made.token}, trust_env=False) as ingest:
            alone = [
                await ingest.post(made.ingest + plan["request"]["path"], json=plan["request"]["body"]) for plan in plans
            ]
        sent = [await made.send(one) for one in (event, label, record)]
        events, labels = made.monitoring.published(EventReceived), made.monitoring.published(LabelReceived)
        remembered = made.monitoring.published(DeadLetterSent)

    assert [answer.status_code for answer in alone] == [403] * 3, "ingest lets no operator publish"
    assert [answer.status_code for answer in sent] == [200] * 3
    assert ({event.id for event in events}, [one.data.prediction_id for one in labels]) == ({"order-1", "7"}, ["e1"])
    assert [one.data.actor for one in remembered] == ["ops"] * 3


async def test_of_a_letter_an_operator_makes_one_event_with_the_id_that_it_had(tmp_path: Path) -> None:
    letter, label = letter_of(observation("order-1", {"price": -1.0})), letter_of(label_received("e1", True), 1)
    async with guarded(tmp_path, letter, label) as made:
        other = await made.send(letter, {"id": "mine", "data": {"price": 1.0}})
        named = (("e2", label.id), ("e1", "k"))
        moved = [await made.send(label, {"id": id, "label": False, "key": key}) for id, key in named]
        first = await made.send(letter, {"id": "order-1", "data": {"price": 2.0}})
        again = await made.send(letter, {"id": "order-1", "data": {"price": 2.0}})
        second = await made.send(letter, {"id": "order-1", "data": {"price": 3.0}})
        by_owner = await send(made.monitoring, label, {"id": "e1", "label": False})
        events = made.monitoring.published(EventReceived)

    assert [answer.status_code for answer in (other, *moved, first, again, second)] == [409, 409, 409, 200, 200, 409]
    assert "id: keep 'order-1'" in other.json()["detail"]
    assert "was sent before" in second.json()["detail"]
    assert by_owner.status_code == 403, "monitoring passes on the token of who may publish, here the operator's"
    assert [(event.id, event.data.fields) for event in events] == [("order-1", {"price": 2.0})]


async def test_what_a_service_alone_writes_is_sent_as_it_was_and_changed_by_an_admin_only(tmp_path: Path) -> None:
    made = prediction_made("p1")
    letter = letter_of(made, service="monitoring")
    forged = made.encode().replace(b'"loop":"market"', b'"loop":"market" ')
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(STATE, letter)
        await monitoring.caught_up()
        body = {"value": b64encode(forged).decode()}
        with acting_for(Identity("ops", "key", "evl_1", (Grant("operator"),))):
            refused = [
                await monitoring.http.post(f"/v1/dead-letters/{letter.id}/{verb}", json=body)
                for verb in ("plan", "send")
            ]
            sent = await send(monitoring, letter)
        with acting_for(Identity("root", "key", "evl_2", (Grant("admin"),))):
            changed = await monitoring.http.post(f"/v1/dead-letters/{letter.id}/send", json=body)

    assert [answer.status_code for answer in (*refused, sent, changed)] == [403, 403, 200, 200]
    assert "a service alone writes" in refused[0].json()["detail"]
