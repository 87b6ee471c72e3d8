"""The client against a served endpoint: what arrives, what is retried, and which errors it raises."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from everloop import AsyncEverloop, Everloop, EverloopHTTPError, EverloopUnreachable
from everloop.local.errors import InstallationNotFound
from everloop.local.ports import free_port
from everloop.retry import BACKOFF, retry_after
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_shared.backoff import Attempts

if TYPE_CHECKING:
    from tests.everloop.conftest import Served

pytestmark = pytest.mark.app
LATER = "2013-01-01T00:00:00+00:00"


def test_one_observation_and_its_label_arrive(installation: Served) -> None:
    with Everloop() as client:
        published = client.publish("market", {"price": 1.5}, entity="shop-3")
        answer = client.predict("market", {"price": 1.5}, id="ask-1")
        client.label("market", published.ids[0], True)
        client.feedback("market", answer.id, correct=False, source="reviewer")

    [event] = installation.events(EventReceived.topic)
    label, feedback = sorted(
        (e.data for e in installation.events(LabelReceived.topic)), key=lambda d: d.kind, reverse=True
    )
    assert (event.id, event.subject, event.data.fields["price"]) == (published.ids[0], "shop-3", 1.5)
    assert (answer.id, answer.prediction, answer.version) == ("ask-1", True, "0")
    assert (label.prediction_id, label.label) == (event.id, True)
    assert (feedback.prediction_id, feedback.correct, feedback.source) == ("ask-1", False, "reviewer")


async def test_a_list_of_observations_is_predicted_in_one_request_each_under_an_id(installation: Served) -> None:
    rows: list[dict[str, Any]] = [{"id": "a", "data": {"price": 1.0}}, {"data": {"price": 2.0}}]
    with Everloop() as client:
        answers = client.predict("market", rows)
    async with AsyncEverloop() as asked:
        again = await asked.predict("market", rows[:1])

    requests = [body for path, body in installation.seen if path.endswith("/predict")]
    assert (answers[0].id, answers[0].prediction, len(answers[1].id)) == ("a", True, 36)
    assert again == answers[:1]
    assert len(requests) == 2


async def test_an_explanation_is_asked_for_one_observation_or_for_all_of_a_list(installation: Served) -> None:
    rows: list[dict[str, Any]] = [{"data": {"price": 1.0}}, {"data": {"price": 2.0}, "explain": False}]
    with Everloop() as client:
        one, plain = client.predict("market", rows[0]["data"], explain=True), client.predict("market", {"price": 1.0})
    async with AsyncEverloop() as asked:
        many = await asked.predict("market", rows, explain=True)

    assert one.explanation is not None
    assert (one.explanation.of, one.explanation.score, one.explanation.contributions) == ("true", 0.5, {"price": 0.0})
    assert plain.explanation is None
    assert [answer.explanation is None for answer in many] == [False, True]


async def test_the_async_client_does_the_same(installation: Served) -> None:
    async with AsyncEverloop() as client:
        published = await client.publish("market", [{"data": {"price": 1.0}}, {"id": "b", "data": {"price": 2.0}}])
        labelled = await client.label("market", [{"id": i, "label": True} for i in published.ids])

    assert published.ids[1] == "b"
    assert labelled.ids == published.ids
    assert {e.id for e in installation.events(EventReceived.topic)} == set(published.ids)


def test_the_list_form_takes_times_and_sources_as_the_single_form_does(installation: Served) -> None:
    when = datetime(2012, 1, 1, tzinfo=UTC)
    with Everloop() as client:
        client.label("market", "a", True, time=when)
        client.label("market", [{"id": "b", "label": True}, {"id": "c", "label": True, "time": LATER}], time=when)
        client.feedback("market", [{"id": "d", "correct": True}], source="reviewer")

    labels = {e.data.prediction_id: e for e in installation.events(LabelReceived.topic)}
    assert (labels["a"].time, labels["b"].time, labels["c"].time) == (when, when, datetime.fromisoformat(LATER))
    assert labels["d"].data.source == "reviewer"


def test_a_label_without_a_time_is_sent_without_one(installation: Served) -> None:
    with Everloop() as client:
        client.label("market", "a", True)

    [label] = installation.events(LabelReceived.topic)
    assert label.time == label.data.received


def test_each_label_is_an_event_of_its_own_and_each_attempt_to_send_it_is_the_same(installation: Served) -> None:
    with Everloop() as client:
        for value in (True, False, True):
            installation.faults += [0, 503]
            client.label("market", [{"id": "a", "label": value}])
        client.label("market", [{"id": "b", "label": value} for value in (True, False, True)])

    ids = {n: [e.id for e in installation.events(LabelReceived.topic) if e.subject == n] for n in "ab"}
    assert {n: len(set(of)) for n, of in ids.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize("faults", [[503], [429, 503], [0], [502, 0, 503]])
def test_a_retry_sends_the_same_event(installation: Served, faults: list[int]) -> None:
    installation.faults += faults
    errors: list[str] = []

    with Everloop(on_retry=lambda failure: errors.append(str(failure))) as client:
        published = client.publish("market", {"price": 1.0})

    assert len(errors) == len(faults)
    assert [e.id for e in installation.events(EventReceived.topic)] == list(published.ids)


def test_it_gives_up_in_the_end_with_the_reason(installation: Served) -> None:
    installation.faults += [503] * 100

    with Everloop(retry_for=0.3) as client, pytest.raises(EverloopHTTPError) as refused:
        client.publish("market", {"price": 1.0})

    assert refused.value.status == 503


def test_an_installation_on_another_port_is_found_again(installation: Served) -> None:
    installation.write_services_json(free_port())

    with Everloop(on_retry=lambda failure: installation.write_services_json()) as client:
        published = client.publish("market", {"price": 1.0})

    assert published.accepted == 1


def test_an_unreachable_service_is_named_with_its_address() -> None:
    with Everloop(ingest=f"http://127.0.0.1:{free_port()}", retry_for=0.0) as client:
        with pytest.raises(EverloopUnreachable, match="ingest does not answer at http://127"):
            client.publish("market", {"price": 1.0})


def test_an_address_that_is_no_url_is_an_error() -> None:
    with Everloop(ingest="localhost:8001") as client, pytest.raises(InstallationNotFound, match="no URL"):
        client.publish("market", {"price": 1.0})


def test_a_refused_observation_names_field_and_fix_and_is_not_retried(installation: Served) -> None:
    with Everloop() as client, pytest.raises(EverloopHTTPError) as refused:
        client.publish("market", {"demand": 1.0})

    assert (refused.value.status, [field for field, _ in refused.value.errors]) == (422, ["data.price"])
    assert len(installation.seen) == 1


def test_a_list_is_cut_into_parts_and_its_refused_entries_are_counted_through(installation: Served) -> None:
    events = [{"id": str(i), "data": {"price": float(i)} if i % 600 else {}} for i in range(1, 1202)]

    with Everloop() as client:
        published = client.publish("market", events)

    assert [len(json.loads(body)) for _, body in installation.seen] == [500, 500, 201]
    assert published.accepted == 1199
    assert [(r.index, r.id) for r in published.rejected] == [(599, "600"), (1199, "1200")]


def test_the_pause_grows_follows_retry_after_and_ends() -> None:
    now = 0.0
    attempts = Attempts(BACKOFF, 10.0, lambda: now)

    pauses = [attempts.pause_s() for _ in range(8)]

    assert all(a is not None and 0.05 <= a <= 5 for a in pauses)
    assert max(filter(None, pauses)) > 1
    assert attempts.pause_s(7.0) == 7.0
    assert attempts.pause_s(11.0) is None
    assert (retry_after({"retry-after": "3"}), retry_after({"retry-after": "soon"})) == (3.0, None)
