"""Dead letters in a list, and the rules for sending their records again."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from everloop_monitoring.errors import LetterRejected
from everloop_schemas.catalogue import TOPICS
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import derived_id
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.monitoring import DeadLetterSent, DeadLetterSentData
from everloop_schemas.names import is_loop_name
from everloop_shared.errors import cut
from everloop_shared.messaging.routes import Position
from everloop_shared.strict_json import NotJson, read

MAX_LETTERS, MAX_LETTERS_PER_LOOP = 10_000, 1_000
"""The list keeps so many, the newest, so that a flood in one loop does not hide the letters of others."""
REASON_CHARACTERS, NAME_CHARACTERS = 500, 256
SEALED = (
    "what is personal in it is sealed, and would be lost, as monitoring has no keys: publish it whole, under its id, "
    "with everloop publish or everloop label, or have its source read it again"
)
Way = Literal["ingest", "source", "topic"]
"""How a record goes again: through an endpoint of ingest, through a source of its loop, or on its own topic."""


@dataclass(frozen=True)
class ListedLetter:
    """What the list knows of a dead letter.

    The letter itself, with its record, stays on its topic in `letter_partition` at `letter_offset`.
    """

    id: str
    loop: str
    service: str
    time: datetime
    topic: str
    partition: int
    offset: int
    error: str
    reason: str
    reader: str | None
    event: str | None
    size: int
    letter_partition: int
    letter_offset: int


class Routing(NamedTuple):
    """How a letter's record goes again, or why it cannot."""

    way: Way | None
    refused: str | None = None


def list_letter(letter: DeadLetter, at: Position) -> ListedLetter:
    """The entry of a letter that lies at this position. Its texts are cut, so that no record makes the list large."""
    d = letter.data
    return ListedLetter(
        id=letter.id,
        loop=letter.loop if is_loop_name(letter.loop) else "",
        service=letter.type.partition(".")[0],
        time=letter.time,
        topic=cut(d.topic, NAME_CHARACTERS),
        partition=d.partition,
        offset=d.offset,
        error=cut(d.error, NAME_CHARACTERS),
        reason=cut(d.reason, REASON_CHARACTERS),
        reader=None if d.reader is None else cut(d.reader, NAME_CHARACTERS),
        event=None if letter.causationid is None else cut(letter.causationid, NAME_CHARACTERS),
        size=len(d.value or "") * 3 // 4,
        letter_partition=at.partition,
        letter_offset=at.offset,
    )


def routing_of(topic: str, reader: str | None) -> Routing:
    """How a record of this topic goes again; `reader` is the source that read it."""
    known = TOPICS.get(topic)
    if known is None:
        if is_loop_name(reader):
            return Routing("source")
        return Routing(None, f"{topic} is no topic of Everloop's, and the letter names no source that read it")
    if topic in (EventReceived.topic.name, LabelReceived.topic.name):
        return Routing("ingest")
    if known.owner == "registry":
        why = "is a chain that the registry alone writes; a service reads it again from its beginning when it starts"
        return Routing(None, f"{topic} {why}")
    if known.compacted:
        return Routing(None, f"{topic} keeps the last record of each key, which an older one must not replace")
    return Routing("topic")


def with_record(routing: Routing, letter: DeadLetter) -> Routing:
    """How a letter goes again, now that its record is known: through ingest nothing that is sealed in it goes."""
    if routing.way in ("ingest", "source") and _is_sealed(letter):
        return Routing(None, SEALED)
    return routing


def _is_sealed(letter: DeadLetter) -> bool:
    """Whether the record, or what is personal in it, is sealed with the key of an entity."""
    if letter.data.personal is not None:
        return True
    try:
        record = read(decoded(letter.data.value) or b"")
    except NotJson:
        return False
    data = record.get("data") if isinstance(record, dict) else None
    return isinstance(data, dict) and isinstance(data.get("personal"), str)


def original(letter: DeadLetter) -> bytes:
    """The bytes of the letter's record. Raises LetterRejected where the letter does not hold them."""
    value = decoded(letter.data.value)
    if value is None and letter.data.personal is not None:
        raise LetterRejected(f"the letter does not show its record: {SEALED}")
    if value is None:
        raise LetterRejected("the letter does not hold its record, which was too large or empty; send a repaired one")
    return value


def decoded(text: str | None) -> bytes | None:
    """Bytes that a letter holds in base64; None where there are none, as in the letter of a stranger."""
    try:
        return None if text is None else b64decode(text)
    except ValueError:
        return None


class SentAs(NamedTuple):
    """What a letter's record became when it went again: an event of a loop, from bytes with this SHA-256."""

    loop: str
    event: str
    digest: str
    repaired: bool


def build_sent(letter: ListedLetter, sent: SentAs, actor: Mapping[str, Any], now: datetime) -> DeadLetterSent:
    """The event that says that a letter was sent again: one for the same bytes, however often they are sent.

    `actor` are the fields that say who sent it.
    """
    return DeadLetterSent(
        id=derived_id(sent.loop, DeadLetterSent.type_name(), letter.id, sent.digest),
        time=now,
        subject=letter.id,
        loop=sent.loop,
        causationid=letter.id,
        data=DeadLetterSentData(
            letter=letter.id,
            topic=letter.topic,
            event=sent.event,
            digest=sent.digest,
            repaired=sent.repaired,
            **actor,
        ),
    )
