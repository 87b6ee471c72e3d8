"""What the endpoints of dead letters take and answer."""

from __future__ import annotations

from typing import Any

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from everloop_schemas.names import ID_LIMIT
from everloop_shared.text import Readable


class Sent(BaseModel):
    """When the record went again, as which event, whether repaired, and by whom."""

    time: str
    event: str
    loop: str
    repaired: bool
    actor: str


class Letter(BaseModel):
    """A dead letter: which service could not process which record, and why; `size` is the record's, in bytes.

    `event` is the id that the record says it has. `way` is how it can go again: by `ingest`, by the `source` of the
    loop that `reader` names, on its own `topic`, or null, where `refused` says why not. `sent` is when it did.
    """

    id: str
    service: str
    loop: str
    time: str
    topic: str
    partition: int
    offset: int
    error: str
    reason: str
    reader: str | None
    event: str | None
    size: int
    way: str | None
    refused: str | None
    sent: list[Sent]


class LetterList(BaseModel):
    """Dead letters, newest first."""

    dead_letters: list[Letter]


class ShownLetter(Letter):
    """A dead letter with its record: `key` and the beginning of `text`, what is no printable text as `\\xNN`.

    `by_command` says that only the command line can send it: it goes by ingest, whose address monitoring does not know.
    """

    key: str | None
    text: str | None
    truncated: bool
    by_command: bool


class SendBody(BaseModel):
    """The repaired record in base64; without one, the record goes as it was."""

    model_config = ConfigDict(extra="forbid")

    value: Base64Bytes | None = Field(None, description="the repaired record, in base64")


class SentBody(BaseModel):
    """What became of a letter's record that its sender gave to ingest: which event of which loop."""

    model_config = ConfigDict(extra="forbid")

    loop: Readable = Field(min_length=1, max_length=63)
    event: Readable = Field(min_length=1, max_length=ID_LIMIT)
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="the SHA-256 of what was sent")
    repaired: bool = False


class SentAgain(BaseModel):
    """Whether something was sent by this request; false where just this was sent before."""

    id: str
    sent: bool


class SentTo(SentAgain):
    """And where to, for people, as which event; the letter's id where its source takes nothing from the record."""

    to: str
    event: str


class PlannedRequest(BaseModel):
    """A POST request to ingest."""

    path: str
    body: dict[str, Any]


class LetterPlan(BaseModel):
    """What sending does: `to` says where the record goes, for people; nothing is sent yet.

    With a `request`, its sender gives the record to ingest, and then says so to `/sent` with these values and the id of
    the event; without, `/send` does it.
    """

    to: str
    loop: str
    digest: str
    repaired: bool
    request: PlannedRequest | None


REFUSED: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no such dead letter, or its topic does not keep the record any more."},
    409: {"description": "The record cannot go again, or not by this service; the detail says why, and what to do."},
    422: {"description": "What should be sent is no event of the topic, another one than the letter's, or not taken."},
}
FOUND: dict[int | str, dict[str, Any]] = {404: REFUSED[404]}
BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "description": "The bytes, as a file.",
    },
    **FOUND,
}
