"""Dead letters: listed, shown as harmless text, and sent again once."""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import entity_state, event, observation, prediction_made
from tests.builders.letters import letter_of, letter_of_record
from tests.monitoring.monitoring_service import RunningMonitoring, running, state

from everloop_monitoring.adapters import letters as adapter
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.monitoring import DeadLetterSent
from everloop_schemas.serving import PredictionMade
from everloop_shared.access.identity import Grant, Identity, acting_for
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.memory import MemoryBroker, MemoryEngine

pytestmark = pytest.mark.app


async def listed(monitoring: RunningMonitoring, **query: Any) -> list[dict[str, Any]]:
    """The list, once every record is handled."""
    await monitoring.caught_up()
    answer = await monitoring.http.get("/v1/dead-letters", params=query)
    found: list[dict[str, Any]] = answer.json()["dead_letters"]
    return found


async def test_letters_are_listed_newest_first_and_by_service_loop_and_number(tmp_path: Path) -> None:
    async with running(MemoryBroker(), tmp_path) as monitoring:
        letters = [letter_of(observation(f"e{n}"), n) for n in range(3)]
        await monitoring.publish(state(), *letters, letter_of(prediction_made("p"), 9, "monitoring"))
        await monitoring.publish(letter_of_record("shop", None, b"\xff", 4, "ingest"))

        every, of_feature = await listed(monitoring), await listed(monitoring, service="feature", limit=2)
        without_loop, late = await listed(monitoring, loop=""), await listed(monitoring, since="2024-05-02T00:00:00Z")

    assert len(every) == 5
    assert [one["event"] for one in of_feature] == ["e2", "e1"]
    assert [(one["topic"], one["way"]) for one in without_loop] == [("shop", None)]
    assert "names no source" in without_loop[0]["refused"]
    assert late == []


async def test_the_bytes_of_a_letter_are_shown_as_harmless_text_and_given_as_a_file(tmp_path: Path) -> None:
    hostile = b"\x1b]0;owned\x07<script>alert(1)</script>\xff\xe2\x80\xae" + b"x" * 30_000
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(letter_of_record("ingest.event_received.v1", b"\x1b[2J", hostile))
        [one] = await listed(monitoring)

        shown = (await monitoring.http.get(f"/v1/dead-letters/{one['id']}")).json()
        value = await monitoring.http.get(f"/v1/dead-letters/{one['id']}/value")

    assert shown["text"].startswith("\\x1b]0;owned\\x07<script>alert(1)</script>\\xff\\u202exxx")
    assert (shown["key"], shown["truncated"], shown["size"]) == ("\\x1b[2J", True, len(hostile))
    assert value.content == hostile
    assert value.headers["content-type"] == "application/octet-stream"
    assert value.headers["content-disposition"] == "attachment"


async def test_a_letter_is_sent_again_on_its_topic_under_its_key_and_only_once(tmp_path: Path) -> None:
    made, broker = prediction_made("p1"), MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), letter_of(made))
        [one] = await listed(monitoring)

        answers = [(await monitoring.http.post(f"/v1/dead-letters/{one['id']}/send", json={})).json() for _ in (1, 2)]

        [after], status = await listed(monitoring), await monitoring.status()
    [record] = [r for p in range(broker.partitions) for r in broker.log(PredictionMade.topic.name, p)]
    assert [answer["sent"] for answer in answers] == [True, False]
    assert (record.key, record.value) == (made.key(), made.encode())
    assert [(sent["event"], sent["repaired"], sent["actor"]) for sent in after["sent"]] == [
        (made.id, False, "anonymous")
    ]
    assert status["predictions"] == 1


async def test_a_repaired_letter_keeps_its_id_and_must_be_an_event_of_its_topic(tmp_path: Path) -> None:
    made = prediction_made("p1")
    broken = made.encode().replace(b'"prediction":', b'"predicted":')
    repaired = made.encode()
    other = prediction_made("p2").encode()
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(state(), letter_of_record(PredictionMade.topic.name, made.key(), broken))
        [one] = await listed(monitoring)

        async def send(value: bytes | None) -> Any:
            body = {} if value is None else {"value": b64encode(value).decode()}
            return await monitoring.http.post(f"/v1/dead-letters/{one['id']}/send", json=body)

        answers = [await send(value) for value in (None, b"\xff", b"[" * 100_000, other, repaired)]
        [after] = await listed(monitoring)

    assert [answer.status_code for answer in answers] == [422, 422, 422, 422, 200]
    assert f"keep '{made.id}'" in answers[3].json()["detail"]
    assert [sent["repaired"] for sent in after["sent"]] == [True]


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (letter_of(state(), service="serving"), "registry alone writes"),
        (letter_of(entity_state("shop", 1, {}), service="serving"), "keeps the last record of each key"),
        (letter_of(observation("e1")), "set EVERLOOP_INGEST_URL"),
        (letter_of_record("shop", None, b"{}", 0, "ingest"), "names no source"),
    ],
)
async def test_what_may_not_go_on_its_topic_again_is_refused_with_the_reason(
    tmp_path: Path, letter: DeadLetter, why: str
) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), letter)
        [one] = await listed(monitoring)

        answer = await monitoring.http.post(f"/v1/dead-letters/{one['id']}/send", json={})

    assert answer.status_code == 409
    assert why in answer.json()["detail"]
    assert broker.events(DeadLetterSent.topic) == []


async def test_the_list_and_what_was_sent_again_are_rebuilt_from_the_topics(tmp_path: Path) -> None:
    broker, first = MemoryBroker(), tmp_path / "first"
    async with running(broker, first) as monitoring:
        await monitoring.publish(state(), letter_of(prediction_made("p1")), letter_of(prediction_made("p2"), 1))
        one = next(one for one in await listed(monitoring) if one["event"] == prediction_made("p1").id)
        await monitoring.http.post(f"/v1/dead-letters/{one['id']}/send", json={})
        before = await listed(monitoring)
    broker.committed.clear()
    shutil.rmtree(first)

    async with running(broker, tmp_path / "second") as monitoring:
        after = await listed(monitoring)

    assert sorted(map(json.dumps, after)) == sorted(map(json.dumps, before))
    assert [one["event"] for one in after if one["sent"]] == [prediction_made("p1").id]


async def test_a_flood_in_one_loop_keeps_the_letters_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "MAX_LETTERS_PER_LOOP", 5)
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(state(), letter_of(observation("first", loop="other"), 0))
        for n in range(1, 40):
            await monitoring.publish(letter_of(observation(f"e{n}"), n))

        found, status = await listed(monitoring), await monitoring.status()

    assert sorted(one["event"] for one in found) == ["e35", "e36", "e37", "e38", "e39", "first"]
    assert status["dead_letters"] == 39


async def test_a_letter_whose_topic_keeps_it_no_more_is_said_to_be_gone(tmp_path: Path) -> None:
    broker, letter = MemoryBroker(), letter_of(observation("e1"))
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), letter)
        [one] = await listed(monitoring)
        broker.log(letter.topic.name, broker.partition_for(letter.key())).clear()

        shown = await monitoring.http.get(f"/v1/dead-letters/{one['id']}")
        unknown = await monitoring.http.get("/v1/dead-letters/none")

    assert (shown.status_code, unknown.status_code) == (404, 404)
    assert "keeps it for 30 days" in shown.json()["detail"]


async def test_what_a_stranger_writes_to_the_topics_of_letters_stops_nothing(tmp_path: Path) -> None:
    async with running(MemoryBroker(), tmp_path) as monitoring:
        strange = letter_of(observation("e1"))
        data = {"letter": "\0" + "x" * 10_000, "topic": "t", "event": "\0", "digest": "d"}
        await monitoring.publish(state(), strange.copy_with(id="\0", subject="\0"), letter_of(observation("e2"), 1))
        await monitoring.publish(event(DeadLetterSent, "\0sent", data))

        found, status = await listed(monitoring), await monitoring.status()
        entries = await monitoring.get("timeline")

    assert [one["event"] for one in found] == ["e2", "e1"]
    assert status["dead_letters"] == 2
    assert [one["kind"] for one in entries if one["kind"] == "letter_sent"] == ["letter_sent"]


async def test_a_letter_can_only_be_remembered_as_sent_to_a_loop_that_there_is(tmp_path: Path) -> None:
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(state(), letter_of(observation("e1")))
        [one] = await listed(monitoring)
        body = {"event": "e1", "digest": "a" * 64}

        refused = await monitoring.http.post(f"/v1/dead-letters/{one['id']}/sent", json={**body, "loop": "none"})
        taken = await monitoring.http.post(f"/v1/dead-letters/{one['id']}/sent", json={**body, "loop": one["loop"]})

    assert (refused.status_code, taken.json()["sent"]) == (404, True)


async def test_a_letter_that_was_taken_before_the_process_was_killed_goes_once_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, broker = prediction_made("p1"), MemoryBroker()

    async def publish_nothing(*_: object) -> None:
        raise Unavailable("the broker is away")

    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), letter_of(made))
        [one] = await listed(monitoring)
        with monkeypatch.context() as away:
            away.setattr(MemoryEngine, "publish", publish_nothing)
            stored = await monitoring.http.post(f"/v1/dead-letters/{one['id']}/send", json={})
            before = broker.events(PredictionMade.topic)

    async with running(broker, tmp_path) as monitoring:
        again = await monitoring.http.post(f"/v1/dead-letters/{one['id']}/send", json={})
        after = await listed(monitoring)

    assert (stored.status_code, before) == (503, [])
    assert again.json()["sent"] is False
    assert [event.id for event in broker.events(PredictionMade.topic)] == [made.id]
    assert [len(one["sent"]) for one in after] == [1]


async def test_who_has_a_role_for_some_loops_sees_and_sends_letters_of_those_alone(tmp_path: Path) -> None:
    made, other = prediction_made("p1"), letter_of_record("shop", None, b"{}", 4, "ingest")
    mine = Identity("ops", "key", "evl_1", (Grant("operator", ("market",)),))
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(state(), letter_of(made), other)
        every = await listed(monitoring)
        [theirs] = [one["id"] for one in every if one["loop"] != "market"]
        [ours] = [one["id"] for one in every if one["loop"] == "market"]

        with acting_for(mine):
            seen = await listed(monitoring, limit=1)
            statuses = [
                (await monitoring.http.get(f"/v1/dead-letters/{theirs}")).status_code,
                (await monitoring.http.get(f"/v1/dead-letters/{theirs}/value")).status_code,
                (await monitoring.http.post(f"/v1/dead-letters/{theirs}/send", json={})).status_code,
                (await monitoring.http.get(f"/v1/dead-letters/{ours}")).status_code,
            ]
            moved = b64encode(made.encode().replace(b'"loop":"market"', b'"loop":"fraud"')).decode()
            elsewhere = await monitoring.http.post(f"/v1/dead-letters/{ours}/send", json={"value": moved})
            sent = await monitoring.http.post(f"/v1/dead-letters/{ours}/send", json={})
            loops = (await monitoring.http.get("/v1/loops")).json()["loops"]
        with acting_for(Identity("eve", "key", "evl_2", (Grant("operator", ("fraud",)),))):
            none = (await monitoring.http.get("/v1/loops")).json()["loops"]
        [after] = [one for one in await listed(monitoring) if one["id"] == ours]

    assert [one["id"] for one in seen] == [ours]
    assert statuses == [403, 403, 403, 200]
    assert elsewhere.status_code in (403, 404), "no loop `fraud` is known here, or it is not theirs"
    assert (sent.status_code, [one["actor"] for one in after["sent"]]) == (200, ["ops"])
    assert ([one["loop"] for one in loops], none) == (["market"], [])
    [event] = [one for one in monitoring.broker.events(DeadLetterSent.topic) if isinstance(one, DeadLetterSent)]
    assert (event.data.actor, event.data.actor_kind, event.data.actor_source) == ("ops", "key", "evl_1")
    assert event.traceparent, "the audit finds its request by it"
