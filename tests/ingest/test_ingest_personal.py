"""What ingest does with personal values: sealed before they leave, by every door, and never quoted."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders.loops import NOW, loop_spec, loop_state
from tests.builders.personal import bytes_on, found_in, keys_away, personal_settings, vault_of
from tests.ingest.conftest import StartIngest
from tests.ingest.source_records import change, record

from everloop_ingest.adapters.sources.conversion import RecordConverter
from everloop_ingest.domain.sources.mapping import SourceLimits, SourceMapping
from everloop_ingest.domain.sources.status import SourceStatus
from everloop_ingest.handlers import Sealing
from everloop_learning.loops import KnownLoops
from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetter
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.sources import SourceSpec
from everloop_shared.messaging.memory import MemoryBroker

INCOME, CITY, COMMENT = 987654.321, "Ouagadougou", "knows Anna Karenina"
SEEN = (INCOME, CITY, COMMENT)
SCHEMA = {
    "price": {"type": "number"},
    "income": {"type": "number", "personal": True, "max": 1e6},
    "city": {"type": "string", "personal": True},
}
EXPECT = [{"field": "price", "between": [0, 10], "then": "dead_letter"}]
SPEC = {"schema": SCHEMA, "expect": EXPECT}
DATA = {"price": 1.5, "income": INCOME, "city": CITY}
CLOUDEVENT = {"specversion": "1.0", "id": "o-2", "source": "/shop", "type": "order", "subject": "anna", "data": DATA}


async def send_one(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/events", json={"id": "o-2", "entity": "anna", "data": DATA})


async def send_list(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/events", json=[{"id": "o-2", "entity": "anna", "data": DATA}])


async def send_lines(client: httpx.AsyncClient) -> httpx.Response:
    lines = json.dumps({"id": "o-2", "entity": "anna", "data": DATA}) + "\n"
    return await client.post("/events", content=lines, headers={"content-type": "application/x-ndjson"})


async def send_cloudevent(client: httpx.AsyncClient) -> httpx.Response:
    headers = {"content-type": "application/cloudevents+json"}
    return await client.post("/events", content=json.dumps(CLOUDEVENT), headers=headers)


async def send_binary(client: httpx.AsyncClient) -> httpx.Response:
    headers = {f"ce-{name}": str(value) for name, value in CLOUDEVENT.items() if name != "data"}
    return await client.post("/events", json=DATA, headers=headers)


@pytest.mark.parametrize("send", [send_one, send_list, send_lines, send_cloudevent, send_binary])
async def test_an_observation_is_sealed_by_every_door(
    start_ingest: StartIngest, broker: MemoryBroker, tmp_path: Path, send: Callable[..., Any]
) -> None:
    async with start_ingest(SPEC, **personal_settings(tmp_path)) as client:
        answer = await send(client)

    [event] = broker.events(EventReceived.topic)
    assert isinstance(event, EventReceived)
    opened = await vault_of(tmp_path).open_event(event)
    assert answer.status_code == 202
    assert event.data.fields == {"price": 1.5}
    assert opened
    assert list(opened.data.fields.items()) == list(DATA.items())
    assert found_in(bytes_on(broker), SEEN) == []


async def test_comments_are_sealed_and_labels_and_loops_without_personal_fields_are_not(
    start_ingest: StartIngest, broker: MemoryBroker, tmp_path: Path
) -> None:
    feedback = {"id": "o-2", "correct": False, "comment": COMMENT}
    async with start_ingest(SPEC, **personal_settings(tmp_path)) as client:
        answers = [
            await client.post("/feedback", json=feedback),
            await client.post("/labels", json={"id": "o-2", "label": True}),
        ]
    labels = [event for event in broker.events(LabelReceived.topic) if isinstance(event, LabelReceived)]
    [commented] = [event for event in labels if event.data.personal]
    opened = await vault_of(tmp_path).open_event(commented)

    assert [answer.status_code for answer in answers] == [202, 202]
    assert opened
    assert opened.data.comment == COMMENT
    assert [event.data.label for event in labels if not event.data.personal] == [True]
    assert found_in(bytes_on(broker), SEEN) == []


async def test_what_a_loop_refuses_is_quoted_to_its_sender_alone(
    start_ingest: StartIngest, broker: MemoryBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    unexpected = {"id": "o-2", "entity": "anna", "data": DATA | {"price": 77.0}}
    wrong = {"id": "o-3", "entity": "anna", "data": DATA | {"income": 10 * INCOME}}
    async with start_ingest(SPEC, **personal_settings(tmp_path)) as client:
        answer = await client.post("/events", json=[unexpected, wrong])

    [letter] = broker.events(DEAD_LETTERS["ingest"].topic)
    assert answer.status_code == 422
    assert isinstance(letter, DeadLetter)
    assert letter.data.unexpected == {"price.between": 1}
    logged = repr([vars(one) for one in caplog.records]) + caplog.text
    assert found_in(bytes_on(broker) + logged.encode(), SEEN) == []


async def test_while_the_keys_are_away_ingest_says_so_and_publishes_nothing(
    start_ingest: StartIngest, broker: MemoryBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.personal.key_store.BUSY_S", 0.05)
    await vault_of(tmp_path).seal("market", "somebody", {})
    async with start_ingest(SPEC, **personal_settings(tmp_path)) as client:
        with keys_away(tmp_path):
            away = await send_one(client)
            published = broker.events(EventReceived.topic)
        back = await send_one(client)

    assert (away.status_code, away.headers["retry-after"], published) == (503, "1", [])
    assert back.status_code == 202
    assert len(broker.events(EventReceived.topic)) == 1


async def test_without_settings_a_loop_with_personal_fields_is_answered_503_with_their_names(
    start_ingest: StartIngest, broker: MemoryBroker
) -> None:
    async with start_ingest(SPEC) as client:
        answer = await send_one(client)

    assert answer.status_code == 503
    assert "EVERLOOP_PERSONAL_MASTER_KEY" in answer.json()["detail"]
    assert broker.events(EventReceived.topic) == []


async def test_an_event_that_would_be_too_large_sealed_is_refused(
    start_ingest: StartIngest, broker: MemoryBroker, tmp_path: Path
) -> None:
    fields = {f"text_{n}": {"type": "string", "personal": True} for n in range(10)}
    data = {name: "x" * 800 for name in fields}
    settings = {"max_event_bytes": 10_000, **personal_settings(tmp_path)}
    async with start_ingest({"schema": fields}, **settings) as client:
        large = await client.post("/events", json={"data": data})
        fits = await client.post("/events", json={"data": data | {"text_0": "", "text_1": "", "text_2": ""}})

    [event] = broker.events(EventReceived.topic)
    assert (large.status_code, fits.status_code) == (422, 202)
    assert "over 7,000 bytes" in large.json()["errors"][0]["error"]
    assert len(event.encode()) <= 10_000


@dataclass
class Source:
    """A source of the loop, and what would be published of its records."""

    converter: RecordConverter
    sealing: Sealing
    status: SourceStatus

    @classmethod
    def of(cls, folder: Path, **source: Any) -> Source:
        state = loop_state(loop_spec(**SPEC))
        loops = KnownLoops()
        loops.apply(state)
        given = SourceSpec.model_validate({"name": "orders", "topic": "orders", "format": "debezium", **source})
        mapping = SourceMapping(state, given, SourceLimits())
        status = SourceStatus("market", "orders", "orders")
        return cls(RecordConverter(mapping, status), Sealing(loops, vault_of(folder)), status)

    async def publish(self, *records: Any) -> list[Any]:
        return await self.sealing.seal("market", [e for r in records for e in self.converter.convert(r, NOW)])


EVENTS = {"events": {"id": "after.id", "entity": "after.customer"}}


async def test_records_of_sources_are_sealed_and_those_that_do_not_fit_are_sealed_as_a_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source.of(tmp_path, **EVENTS)
    row = DATA | {"id": 7, "customer": "anna"}
    odd = record(b'{"op": "c", "after": {"city": "' + CITY.encode() + b'", "income": 987654.321')

    accepted = await source.publish(change("c", row))
    letters = await source.publish(change("c", row | {"income": str(INCOME)}), change("c", row | {"price": 99.0}), odd)

    vault = vault_of(tmp_path)
    opened = [
        await vault.unseal("market", entity, letter.data.personal)
        for entity, letter in zip(("anna", "anna", ""), letters, strict=True)
    ]
    assert accepted[0].data.fields == {"price": 1.5}
    assert [letter.data.error for letter in letters] == ["SourceRecordRejected"] * 3
    assert all(one and one["value"] for one in opened)
    assert [(letter.data.value, letter.data.key, letter.data.headers) for letter in letters] == [(None,) * 3] * 3
    written = b"".join(event.encode() for event in (*accepted, *letters))
    assert found_in(written + caplog.text.encode() + source.status.rejection.encode(), SEEN) == []


async def test_what_cannot_be_read_of_a_source_is_logged_without_its_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source.of(tmp_path, **EVENTS)
    monkeypatch.setattr(source.converter.mapping, "_decode", lambda record: float(CITY))

    [letter] = await source.publish(change("c", DATA | {"id": 7}))

    assert (letter.data.error, letter.data.value) == ("ValueError", None)
    assert "ValueError at test_ingest_personal.py" in letter.data.reason
    assert found_in(letter.encode() + caplog.text.encode(), SEEN) == []
