"""Dead letters by the command line, on the real ingest, feature and monitoring."""

from __future__ import annotations

import json
import shlex
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.access import add_key
from tests.builders.events import label_received, observation, prediction_made
from tests.builders.letters import letter_of, letter_of_record
from tests.builders.loops import LOOP, loop_spec, loop_state
from tests.everloop.served_services import ServedServices, served
from tests.everloop.test_command_line import run

from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.serving import PredictionMade
from everloop_shared.clock import system_clock

pytestmark = [pytest.mark.app, pytest.mark.timeout(60)]
OPERATIONS = Path(__file__).parents[2] / "shared" / "docs" / "operations.md"
SOURCES = [{"name": "orders", "topic": "shop-orders", "events": {"id": "order", "fields": {"price": "total"}}}]


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedServices]:
    """Ingest, feature and monitoring, with one loop that has a source."""
    monkeypatch.setenv("EVERLOOP_DATA", str(tmp_path))
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.delenv("VISUAL", raising=False)
    with served(tmp_path, "ingest", "feature", "monitoring") as running:
        running.publish(loop_state(loop_spec(schema={"price": {"type": "number"}}, sources=SOURCES)))
        yield running


def letters(*options: str, count: int | None = None) -> list[dict[str, Any]]:
    """What `ls` lists, once there are so many."""
    deadline = time.monotonic() + 20
    while True:
        found = json.loads(run("letters", "ls", "--json", *options).stdout)
        if count is None or len(found) >= count:
            assert isinstance(found, list)
            return found
        assert time.monotonic() < deadline, found


def wait_for(condition: Any) -> None:
    """Return once the condition is true; fails at the deadline."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)


def ids(services: ServedServices, kind: Any) -> list[str]:
    """The ids of a kind of events."""
    return [event.id for event in services.events(kind.topic)]


def test_an_observation_that_did_not_fit_is_listed_shown_repaired_and_computed(services: ServedServices) -> None:
    bad = observation("order-1", {"price": 1.0}).encode().replace(b'"price":1.0', b'"price":"\\u001b[2Jcheap"')
    services.append(EventReceived.topic.name, observation("order-1").key(), bad)
    [letter] = letters(count=1)

    listed, shown = run("letters", "ls"), run("letters", "show", letter["id"])
    again = run("letters", "send", letter["id"])
    repaired = run("letters", "repair", letter["id"], "--set", "data.price=3.5")

    assert (letter["service"], letter["event"], letter["way"]) == ("feature", "order-1", "ingest")
    assert letter["id"] in listed.stdout
    assert "\x1b" not in listed.stdout + shown.stdout
    assert "by ingest" in shown.stdout
    assert (again.exit_code, repaired.exit_code) == (1, 0), repaired.output
    assert "data.price" in again.stderr
    assert f"everloop letters repair {letter['id']}" in again.stderr
    wait_for(lambda: ids(services, FeaturesComputed))
    [computed] = services.events(FeaturesComputed.topic)
    assert (computed.data.prediction_id, computed.data.features["price"]) == ("order-1", 3.5)
    assert [sent["repaired"] for sent in letters()[0]["sent"]] == [True]


def test_a_letter_that_was_sent_before_its_sender_was_killed_has_its_effects_once(services: ServedServices) -> None:
    services.publish(letter_of(observation("order-1", {"price": 2.0})))
    [letter] = letters(count=1)
    body = {
        "id": "order-1",
        "entity": "default",
        "time": observation("order-1").time.isoformat(),
        "data": {"price": 2.0},
    }
    httpx.post(f"{services.urls['ingest']}/v1/loops/{LOOP}/events", json=body, trust_env=False).raise_for_status()

    first, second = run("letters", "send", letter["id"]), run("letters", "send", letter["id"])
    services.publish(observation("last", {"price": 1.0}))

    wait_for(lambda: any(e.data.prediction_id == "last" for e in services.events(FeaturesComputed.topic)))
    computed = [event.data.prediction_id for event in services.events(FeaturesComputed.topic)]
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert "is sent again" in first.stdout
    assert "was sent again before, which changes nothing" in second.stdout
    assert sorted(computed) == ["last", "order-1"]
    assert len(letters()) == 1


def test_all_letters_are_sent_and_those_that_cannot_be_are_named(services: ServedServices) -> None:
    services.publish(
        letter_of(label_received("order-1", True)),
        letter_of(prediction_made("order-2"), 1, "monitoring"),
        letter_of(loop_state(loop_spec()), 2, "serving"),
    )
    letters(count=3)

    planned = run("letters", "send", "--all", "--dry-run")
    nothing = [ids(services, LabelReceived), ids(services, PredictionMade)]
    done = run("letters", "send", "--all", "--json")
    rest = run("letters", "send", "--all")

    assert "2 would be sent, 1 cannot be" in planned.stdout
    assert nothing == [[], []]
    assert (done.exit_code, rest.exit_code) == (1, 1)
    assert "registry alone writes" in done.stderr
    assert [sent["new"] for sent in json.loads(done.stdout.splitlines()[0])] == [True, True]
    assert len(ids(services, LabelReceived)) == 1
    assert ids(services, PredictionMade) == [prediction_made("order-2").id]


def test_a_record_of_a_source_goes_by_its_source_under_the_id_that_the_source_gives_it(
    services: ServedServices,
) -> None:
    letter = letter_of_record("shop-orders", None, b'{"order": 7, "total": "12"}', 5, "ingest")
    data = letter.data.model_copy(update={"reader": "orders", "headers": (("h", b64encode(b"v").decode()),)})
    services.publish(letter.copy_with(loop=LOOP, data=data))
    [found] = letters(count=1)

    refused = run("letters", "send", found["id"])
    repaired = run("letters", "repair", found["id"], "--set", "total=12.5")

    [event] = services.events(EventReceived.topic)
    assert (found["way"], refused.exit_code, repaired.exit_code) == ("source", 1, 0), repaired.output
    assert "total" in refused.stderr
    assert (event.id, event.data.fields) == ("7", {"price": 12.5})


def test_a_record_is_repaired_in_a_file_or_in_the_editor(
    services: ServedServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.publish(letter_of(observation("order-1", {"price": -1.0})))
    [letter] = letters(count=1)
    file, editor = tmp_path / "record.json", tmp_path / "edit.sh"
    editor.write_text("#!/bin/sh\nsed -i 's/-1.0/4.0/' \"$1\"\n")
    editor.chmod(0o700)

    untold = run("letters", "repair", letter["id"])
    written = run("letters", "repair", letter["id"], "--output", str(file))
    given = json.loads(file.read_text())
    file.write_text(json.dumps(given | {"data": {"price": 2.0}}))
    planned = run("letters", "repair", letter["id"], "--file", str(file), "--dry-run")
    by_file = run("letters", "repair", letter["id"], "--file", str(file))
    monkeypatch.setenv("EDITOR", str(editor))
    by_editor = run("letters", "repair", letter["id"])

    assert untold.exit_code == 1
    assert "--set" in untold.stderr
    assert [written.exit_code, planned.exit_code, by_file.exit_code, by_editor.exit_code] == [0, 0, 0, 0]
    assert (given["id"], given["entity"], given["data"]) == ("order-1", "default", {"price": -1.0})
    assert "would go to ingest" in planned.stdout
    assert [event.data.fields["price"] for event in services.events(EventReceived.topic)] == [2.0, 4.0]


def test_bytes_that_are_no_json_are_written_anew_and_those_of_no_loop_are_not_guessed(services: ServedServices) -> None:
    services.publish(letter_of_record(EventReceived.topic.name, b"k", b"\x80not json"))
    [letter] = letters(count=1)

    sent, changed = (
        run("letters", "send", letter["id"]),
        run("letters", "repair", letter["id"], "--set", "data.price=1"),
    )
    neither, both = run("letters", "send"), run("letters", "send", letter["id"], "--all")

    assert [r.exit_code for r in (sent, changed, neither, both)] == [1, 1, 2, 2]
    assert "is no JSON object" in sent.stderr
    assert "--file" in changed.stderr


def test_the_commands_of_the_page_about_operations_work_as_they_are_written(
    services: ServedServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = OPERATIONS.read_text().partition("## Dead letters")[2].partition("\n## ")[0]
    block = section.partition("```sh\n")[2].partition("```")[0]
    services.publish(
        loop_state(loop_spec(loop="churn", schema={"visits": {"type": "number"}})),
        letter_of(observation("order-1", {"visits": -1.0}, loop="churn")),
        letter_of(observation("order-2", {"visits": 2.0}, loop="churn"), 1),
    )
    id = next(one["id"] for one in letters(count=2) if one["event"] == "order-1")
    monkeypatch.chdir(tmp_path)

    commands = [shlex.split(line.replace("$ID", id)) for line in block.splitlines()]
    done = [run(*command[1:]) for command in commands]

    assert {command[2] for command in commands} == {"ls", "show", "repair", "send"}
    assert [result.exit_code for result in done] == [0] * len(commands), [result.output for result in done]
    published = {event.id: event.data.fields["visits"] for event in services.events(EventReceived.topic)}
    assert published == {"order-1": 3, "order-2": 2.0}


def test_an_operator_sends_a_letter_though_ingest_lets_them_publish_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, own, now = tmp_path / "keys.json", tmp_path / "own.token", system_clock()
    own.write_text(add_key(file, "everloop/monitoring", "publisher", "labeler", now=now, kind="service"))
    monkeypatch.setenv("EVERLOOP_DATA", str(tmp_path))
    monkeypatch.setenv("EVERLOOP_TOKEN", add_key(file, "ops", "operator", now=now))
    access = {"auth": "on", "auth_keys": file}
    settings = {"ingest": access, "monitoring": {**access, "token_file": own}}
    with served(tmp_path, "ingest", "monitoring", own=settings) as services:
        services.publish(loop_state(loop_spec(schema={"price": {"type": "number"}})))
        services.publish(letter_of(observation("order-1", {"price": 2.0})))
        [letter] = letters(count=1)

        sent = run("letters", "send", letter["id"])
        published = run("publish", LOOP, '{"data": {"price": 1}}')

        assert (sent.exit_code, published.exit_code) == (0, 1), sent.output
        assert "is sent again" in sent.stdout
        assert "events.publish" in published.stderr
        assert ids(services, EventReceived) == ["order-1"]
        assert [one["actor"] for one in letters()[0]["sent"]] == ["ops"]
