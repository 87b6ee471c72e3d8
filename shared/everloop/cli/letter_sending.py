"""Sends the record of a dead letter where it belongs, through the endpoint that checks it again."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from everloop.cli.ask import ask_by
from everloop.cli.output import CommandFailed
from everloop.client import Everloop
from everloop.wire import http_error, loop_path

LABEL_TOPIC = "ingest.label_received.v1"
LABEL_FIELDS = ("label", "correct", "comment", "source")
Letter = Mapping[str, Any]


@dataclass(frozen=True)
class Sent:
    """What became of a letter; `new` is False where just this was sent before."""

    letter: str
    to: str
    event: str | None
    new: bool


def path_of(letter: str, verb: str = "") -> str:
    """The path of a letter, or of one of its verbs."""
    return f"/v1/dead-letters/{quote(letter, safe='')}{verb}"


def read_record(client: Everloop, letter: str) -> bytes:
    """The bytes of a letter's record."""
    response = client.request("monitoring", "GET", path_of(letter, "/value"))
    if response.status_code >= 400:
        raise http_error(response)
    return response.content


def body_of(letter: Letter, record: bytes) -> bytes:
    """What is repaired and sent: of a record for ingest the body that its endpoint takes, else the record itself.

    A record for ingest that is no JSON object stays as it is.
    """
    if letter["way"] != "ingest":
        return record
    event = _object(record)
    if event is None:
        return record
    return json.dumps(_ingest_body(letter, event), ensure_ascii=False).encode()


def change(body: bytes, settings: Sequence[str]) -> bytes:
    """The body with these values: `path=value`, names separated by dots, the value in JSON or as text."""
    changed = _object(body)
    if changed is None:
        raise CommandFailed(
            "--set changes a JSON object, and this record is none: write it anew, and give it by --file"
        )
    for setting in settings:
        path, equals, value = setting.partition("=")
        *parents, name = path.split(".")
        if not equals or not all([*parents, name]):
            raise CommandFailed(f"{setting!r} is no PATH=VALUE, such as data.price=3.5")
        place = changed
        for parent in parents:
            inner = place.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise CommandFailed(f"{path}: {parent} is no object, so it has no {name}")
            place = inner
        place[name] = _value(value)
    return json.dumps(changed, ensure_ascii=False).encode()


def destination(letter: Letter, body: bytes) -> str:
    """Where a body goes, for people. Raises CommandFailed where it can go nowhere."""
    match letter["way"]:
        case "ingest":
            loop, endpoint = _ingest_place(letter, body)
            return f"ingest, {loop_path(loop, endpoint)}"
        case "source":
            return f"ingest, source {letter['reader']} of loop {letter['loop']}"
        case "topic":
            return f"topic {letter['topic']}"
    raise CommandFailed(f"{letter['id']} cannot be sent again: {letter['refused']}")


def send(client: Everloop, letter: Letter, record: bytes | None, repaired: bytes | None) -> Sent:
    """Send a letter's record, which is `record`, or what it was repaired to. Raises EverloopError or CommandFailed.

    A command that is killed between the two requests has sent it, and sends it again the next time: consumers know the
    event by its id.
    """
    body = repaired if repaired is not None else body_of(letter, record or b"")
    to = destination(letter, body)
    if letter["way"] == "topic":
        given = {} if repaired is None else {"value": b64encode(repaired).decode()}
        done = _post(client, "monitoring", path_of(letter["id"], "/send"), given)
        return Sent(letter["id"], to, letter["event"], done["sent"])
    loop, ids = _send_by_ingest(client, letter, body)
    event = ids[0] if ids else letter["id"]
    mark = {"loop": loop, "event": event, "digest": sha256(body).hexdigest(), "repaired": repaired is not None}
    done = _post(client, "monitoring", path_of(letter["id"], "/sent"), mark)
    return Sent(letter["id"], to, event if ids else None, done["sent"])


def _send_by_ingest(client: Everloop, letter: Letter, body: bytes) -> tuple[str, list[str]]:
    if letter["way"] == "ingest":
        loop, endpoint = _ingest_place(letter, body)
        given = _completed(letter, _object(body) or {}, endpoint)
        answer = _post(client, "ingest", loop_path(loop, endpoint), given)
        return loop, answer["ids"]
    shown = ask_by(client, "monitoring", path_of(letter["id"]))
    place = {name: letter[name] for name in ("topic", "partition", "offset")}
    given = place | shown["record"] | {"value": b64encode(body).decode()}
    path = f"{loop_path(letter['loop'], 'sources')}/{quote(letter['reader'], safe='')}/records"
    return letter["loop"], _post(client, "ingest", path, given)["ids"]


def _post(client: Everloop, service: str, path: str, body: Mapping[str, Any]) -> Any:
    return ask_by(client, service, path, "POST", json.dumps(body).encode())


def _ingest_body(letter: Letter, event: dict[str, Any]) -> dict[str, Any]:
    """An event of ingest's topics as the body of the endpoint that made it; any other object as it is."""
    data = event.get("data")
    if "specversion" not in event or not isinstance(data, dict):
        return event
    time = {"time": event["time"]} if "time" in event else {}
    if letter["topic"] == LABEL_TOPIC:
        said = {name: data[name] for name in LABEL_FIELDS if data.get(name) is not None}
        return {"id": data.get("prediction_id", event.get("subject")), **said, **time}
    named = {"id": event.get("id"), "entity": event.get("subject")}
    return {**{k: v for k, v in named.items() if v is not None}, **time, "data": data.get("fields", data)}


def _ingest_place(letter: Letter, body: bytes) -> tuple[str, str]:
    """The loop and the endpoint that take the body."""
    given = _object(body)
    if given is None:
        fix = f"everloop letters repair {letter['id']} writes it to a file; make it an object, and give it by --file"
        raise CommandFailed(f"the record of {letter['id']} is no JSON object: {fix}")
    if not letter["loop"]:
        raise CommandFailed(
            f"the record of {letter['id']} names no loop: publish it to the loop that it is meant for, with "
            "everloop publish LOOP @FILE or everloop label LOOP @FILE"
        )
    if letter["topic"] != LABEL_TOPIC:
        return letter["loop"], "events"
    is_feedback = any(name in given for name in ("correct", "comment", "source"))
    return letter["loop"], "feedback" if is_feedback else "labels"


def _completed(letter: Letter, body: dict[str, Any], endpoint: str) -> dict[str, Any]:
    """The body with a name that stays the same however often it is sent."""
    if endpoint == "events":
        return {"id": letter["event"] or letter["id"]} | body
    return {"key": letter["id"]} | body


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
