"""What a person repairs of a dead letter, and how its record goes again: to ingest as a request, or on its topic."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from everloop_monitoring.domain.letters import SentAs, decoded, original, routing_of, with_record
from everloop_monitoring.errors import LetterNotSendable, LetterRejected
from everloop_schemas.catalogue import decode
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.names import LOOP_NAME_RULE, is_id, is_loop_name
from everloop_shared.errors import cut
from everloop_shared.strict_json import NotJson, read

PUBLISHES, LABELS = "events.publish", "labels.publish"
"""What ingest's endpoints permit; a source may give both."""
LABEL_FIELDS = ("label", "correct", "comment", "source")
FEEDBACK_FIELDS = ("correct", "comment", "source")
"""Of these a label has none."""


class IngestRequest(NamedTuple):
    """A POST request to ingest, and the actions that ingest asks whoever sends it for a role for."""

    path: str
    body: dict[str, Any]
    actions: tuple[str, ...] = ()


@dataclass(frozen=True)
class SendPlan:
    """How a letter's record goes again: `event` on its topic, or as `request` to ingest. `to` is for people."""

    to: str
    loop: str
    digest: str
    repaired: bool
    event: Event | None = None
    request: IngestRequest | None = None

    def sent_as(self, event: str) -> SentAs:
        """What is remembered once it has gone as this event."""
        return SentAs(self.loop, event, self.digest, self.repaired)


def body_of(letter: DeadLetter) -> bytes:
    """What is repaired and sent: of a record for ingest the body that its endpoint takes, else the record itself.

    A record for ingest that is no JSON object stays as it is. Raises LetterRejected where the letter has no record.
    """
    record = original(letter)
    if routing_of(letter.data.topic, letter.data.reader).way != "ingest":
        return record
    try:
        return json.dumps(_ingest_body(letter, _read_object(record)), ensure_ascii=False, allow_nan=False).encode()
    except (LetterRejected, ValueError):
        return record


def text_of(letter: DeadLetter) -> bytes:
    """`body_of` with a line for each value where it is JSON: what a person begins a repair with."""
    body = body_of(letter)
    try:
        return json.dumps(read(body), indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except ValueError:
        return body


def plan_sending(letter: DeadLetter, repaired: bytes | None) -> SendPlan:
    """How the record goes again, as it was or repaired. Raises LetterNotSendable or LetterRejected, with the fix."""
    routing = with_record(routing_of(letter.data.topic, letter.data.reader), letter)
    if routing.refused:
        raise LetterNotSendable(routing.refused)
    value = body_of(letter) if repaired is None else repaired
    changed = repaired is not None and (decoded(letter.data.value) is None or repaired != body_of(letter))
    digest = sha256(value).hexdigest()
    if routing.way == "topic":
        event = _event_again(letter, value)
        return SendPlan(f"topic {letter.data.topic}", event.loop, digest, changed, event=event)
    if routing.way == "source":
        request = _source_request(letter, value)
        to = f"ingest, source {letter.data.reader} of loop {letter.loop}"
        return SendPlan(to, letter.loop, digest, changed, request=request)
    loop, request = _ingest_request(letter, value)
    return SendPlan(f"ingest, {request.path}", loop, digest, changed, request=request)


def require_same_record(letter: DeadLetter, plan: SendPlan, sent_before: Iterable[str]) -> None:
    """Raises LetterNotSendable where a plan for ingest makes more of a letter than its record, repaired, once.

    That is for who may publish; so whoever may send letters alone publishes nothing of their own. `sent_before` are
    the digests of what went.
    """
    if any(digest != plan.digest for digest in sent_before):
        raise LetterNotSendable(
            "its record was sent before, with other content: another repair is for who may publish, with one of the "
            "roles that ingest asks for"
        )
    if plan.request is None or not plan.repaired or len(plan.request.actions) > 1:
        return  # what a record of a source becomes, its mapping says
    body = plan.request.body
    for name, value in _known_names(letter).items():
        if body.get(name) != value:
            raise LetterNotSendable(
                f"{name}: keep {value!r}; to send {str(body.get(name))[:100]!r} in its place is for who may publish"
            )


def _known_names(letter: DeadLetter) -> dict[str, Any]:
    """What a repair must keep: the id of an event, of a label the prediction and the key under which it counts once."""
    try:
        given = _ingest_body(letter, _read_object(original(letter))).get("id")
    except LetterRejected:
        given = None
    if letter.data.topic == LabelReceived.topic.name:
        return {"key": letter.id} | ({"id": given} if given is not None else {})
    return {"id": given if given is not None else _event_id(letter)}


def _event_again(letter: DeadLetter, value: bytes) -> Event:
    """The event that goes on the letter's topic again."""
    topic = letter.data.topic
    try:
        event = decode(topic, value)
        event.encode()
    except (ValueError, RecursionError) as e:
        raise LetterRejected(cut(f"not an event of {topic}: {e}", 1_000)) from e
    if not isinstance(event, DeadLetter) and not is_loop_name(event.loop):
        raise LetterRejected(f"loop: {event.loop[:80]!r} is not a valid loop name: {LOOP_NAME_RULE}")
    known = letter.causationid
    if known is not None and is_id(known) and event.id != known:
        raise LetterRejected(f"id: keep {known!r}, by which consumers recognise the record, in place of {event.id!r}")
    return event


def _ingest_request(letter: DeadLetter, value: bytes) -> tuple[str, IngestRequest]:
    """The loop, and the request to the endpoint that made the event; an id or a key stays the same at each sending."""
    given = _read_object(value)
    body = _ingest_body(letter, given)
    loop = next((name for name in (letter.loop, given.get("loop")) if is_loop_name(name)), None)
    if loop is None:
        raise LetterRejected(
            f"the record of {letter.id} names no loop: publish it to the loop that it is meant for, with "
            "everloop publish LOOP @FILE or everloop label LOOP @FILE"
        )
    if letter.data.topic != LabelReceived.topic.name:
        return loop, IngestRequest(f"/v1/loops/{loop}/events", {"id": _event_id(letter)} | body, (PUBLISHES,))
    endpoint = "feedback" if any(name in body for name in FEEDBACK_FIELDS) else "labels"
    return loop, IngestRequest(f"/v1/loops/{loop}/{endpoint}", {"key": letter.id} | body, (LABELS,))


def _event_id(letter: DeadLetter) -> str:
    """The id that an event is sent under whose record has none."""
    return letter.causationid if letter.causationid is not None and is_id(letter.causationid) else letter.id


def _source_request(letter: DeadLetter, value: bytes) -> IngestRequest:
    """The record with its place, for the source that read it."""
    if not is_loop_name(letter.loop):
        raise LetterNotSendable(f"the letter names no loop whose source {letter.data.reader} could read its record")
    d = letter.data
    body = {
        "topic": d.topic,
        "partition": d.partition,
        "offset": d.offset,
        "key": d.key,
        "headers": d.headers or (),
        "timestamp": round(letter.time.timestamp() * 1000),
        "value": b64encode(value).decode(),
    }
    return IngestRequest(f"/v1/loops/{letter.loop}/sources/{d.reader}/records", body, (PUBLISHES, LABELS))


def _ingest_body(letter: DeadLetter, event: dict[str, Any]) -> dict[str, Any]:
    """An event of ingest's topics as the body of the endpoint that made it; any other object as it is."""
    data = event.get("data")
    if "specversion" not in event or not isinstance(data, dict):
        return event
    time = {"time": event["time"]} if "time" in event else {}
    if letter.data.topic == LabelReceived.topic.name:
        said = {name: data[name] for name in LABEL_FIELDS if data.get(name) is not None}
        return {"id": data.get("prediction_id", event.get("subject")), **said, **time}
    named = {"id": event.get("id"), "entity": event.get("subject")}
    return {**{k: v for k, v in named.items() if v is not None}, **time, "data": data.get("fields", data)}


def _read_object(text: bytes) -> dict[str, Any]:
    try:
        found = read(text)
    except NotJson as e:
        raise LetterRejected(cut(f"the record is no JSON object; repair it to be one: {e}", 1_000)) from e
    if not isinstance(found, dict):
        raise LetterRejected("the record is no JSON object; repair it to be one")
    return found
