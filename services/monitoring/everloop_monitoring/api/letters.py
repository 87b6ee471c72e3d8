"""The endpoints of dead letters: the list, one of them with its record, and sending it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field

from everloop_monitoring.domain.letter_plans import SendPlan, plan_sending, text_of
from everloop_monitoring.domain.letters import MAX_LETTERS, ListedLetter, SentAs, decoded, routing_of
from everloop_monitoring.handlers.letters import LetterHandlers
from everloop_monitoring.ports import LetterReader
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.monitoring import DeadLetterSent
from everloop_schemas.names import ID_LIMIT
from everloop_shared.access.identity import current_identity
from everloop_shared.commands import CommandEdge
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body
from everloop_shared.text import Readable

MAX_SHOWN_BYTES = 20_000
"""How much of a record is shown as text; the rest is in the file that `/value` answers."""
MAX_SEND_BYTES = 8_000_000
"""Of the body of a command, with a repaired record in base64."""
Limit = Annotated[int, Query(ge=1, le=MAX_LETTERS, description="how many, counted from the newest")]
Service = Annotated[str | None, Query(max_length=32, description="of this service only")]
OfLoop = Annotated[str | None, Query(max_length=63, description="of this loop only; empty: of records without one")]
Since = Annotated[AwareDatetime | None, Query(description="whose record is not older, RFC 3339")]


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


_REFUSED: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no such dead letter, or its topic does not keep the record any more."},
    409: {"description": "The record cannot go again, or not by this service; the detail says why, and what to do."},
    422: {"description": "What should be sent is no event of the topic, another one than the letter's, or not taken."},
}
_FOUND: dict[int | str, dict[str, Any]] = {404: _REFUSED[404]}
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "description": "The bytes, as a file.",
    },
    **_FOUND,
}


FindLetter = Callable[[str, str], Awaitable[tuple[ListedLetter, list[DeadLetterSent]]]]


def letter_router(reader: LetterReader, handlers: LetterHandlers, commands: CommandEdge) -> APIRouter:
    """The routes below /v1/dead-letters."""
    routes = APIRouter(prefix="/v1/dead-letters")
    _add_queries(routes, reader, handlers)
    _add_commands(routes, reader, handlers, commands)
    return routes


def _only_permitted(reader: LetterReader) -> FindLetter:
    """Finds a letter by its id, if the caller may do this to letters of its loop; raises NotPermitted."""

    async def find(id: str, action: str) -> tuple[ListedLetter, list[DeadLetterSent]]:
        listed, sent = await reader.letter(id)
        current_identity().require(action, listed.loop)
        return listed, sent

    return find


def _add_queries(routes: APIRouter, reader: LetterReader, handlers: LetterHandlers) -> None:
    permitted = _only_permitted(reader)

    @routes.get("", response_model=LetterList)
    async def list_dead_letters(
        service: Service = None, loop: OfLoop = None, since: Since = None, limit: Limit = 100
    ) -> JSONResponse:
        """The latest records that a service could not process, newest first; those of loops that the caller may see."""
        asks = current_identity()
        read = limit if asks.may_everywhere("letters.read") else MAX_LETTERS
        found = await reader.letters(service, loop, since, read)
        seen = [_render(*one) for one in found if asks.may("letters.read", one[0].loop)]
        return JSONResponse({"dead_letters": seen[:limit]})

    @routes.get("/{id}", response_model=ShownLetter, responses=_FOUND)
    async def get_dead_letter(id: str) -> JSONResponse:
        """One of them, with its record as text."""
        listed, sent = await permitted(id, "letters.read")
        letter = await reader.read(listed)
        rendered = _render(listed, sent)
        by_command = rendered["way"] in ("ingest", "source") and handlers.ingest is None
        return JSONResponse(rendered | _render_record(letter) | {"by_command": by_command})

    @routes.get("/{id}/value", response_class=Response, responses=_BYTES)
    async def get_dead_letter_value(id: str) -> Response:
        """Its record as it lay on its topic, for a file."""
        listed, _ = await permitted(id, "letters.read")
        return _file(decoded((await reader.read(listed)).data.value) or b"")

    @routes.get("/{id}/body", response_class=Response, responses={**_BYTES, 422: _REFUSED[422]})
    async def get_dead_letter_body(id: str) -> Response:
        """What a repair begins with: of a record for ingest the body that its endpoint takes, JSON in lines."""
        listed, _ = await permitted(id, "letters.read")
        return _file(text_of(await reader.read(listed)))


def _add_commands(routes: APIRouter, reader: LetterReader, handlers: LetterHandlers, commands: CommandEdge) -> None:
    permitted, described = _only_permitted(reader), describe_body(SendBody, required=False)

    async def plan_of(id: str, request: Request) -> tuple[ListedLetter, list[DeadLetterSent], SendPlan]:
        body = await command_body(SendBody, request, MAX_SEND_BYTES, required=False)
        listed, before = await permitted(id, "letters.send")
        plan = plan_sending(await reader.read(listed), body.value)
        current_identity().require("letters.send", plan.loop)  # a repaired record may be of another than the letter
        return listed, before, plan

    @routes.post("/{id}/plan", response_model=LetterPlan, responses=_REFUSED, openapi_extra=described)
    async def plan_sending_dead_letter(id: str, request: Request) -> JSONResponse:
        """What sending its record would do, as it was or repaired; sends nothing."""
        await commands.accept(request.headers)
        _, _, plan = await plan_of(id, request)
        return JSONResponse(_render_plan(plan))

    @routes.post("/{id}/send", response_model=SentTo, responses=_REFUSED, openapi_extra=described)
    async def send_dead_letter(id: str, request: Request) -> JSONResponse:
        """Send its record again, by ingest or on its topic, under the same id; the same bytes go once."""
        command = await commands.accept(request.headers)
        listed, before, plan = await plan_of(id, request)
        event = await handlers.deliver(listed, plan, before, request.headers.get("authorization"))
        sent = plan.sent_as(event)
        events = await command.run(lambda actor: handlers.record_sent(listed, sent, actor.name, plan.event))
        return JSONResponse({"id": id, "sent": bool(events), "to": plan.to, "event": event})

    @routes.post("/{id}/sent", response_model=SentAgain, responses=_FOUND, openapi_extra=describe_body(SentBody))
    async def record_sent_dead_letter(id: str, request: Request) -> JSONResponse:
        """Remember that its sender gave its record to ingest again."""
        command = await commands.accept(request.headers)
        body = await command_body(SentBody, request, MAX_SEND_BYTES)
        listed, _ = await permitted(id, "letters.send")
        current_identity().require("letters.send", body.loop)
        events = await command.run(lambda actor: handlers.record_sent(listed, SentAs(**dict(body)), actor.name))
        return JSONResponse({"id": id, "sent": bool(events)})


def _file(content: bytes) -> Response:
    headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _render_plan(plan: SendPlan) -> dict[str, Any]:
    rendered = {"to": plan.to, "loop": plan.loop, "digest": plan.digest, "repaired": plan.repaired}
    return rendered | {"request": plan.request and plan.request._asdict()}


def _render(letter: ListedLetter, sent: list[DeadLetterSent]) -> dict[str, Any]:
    routing = routing_of(letter.topic, letter.reader)
    rendered = {name: getattr(letter, name) for name in Letter.model_fields if hasattr(letter, name)}
    again = [
        {
            "time": one.time.isoformat(),
            "event": one.data.event,
            "loop": one.loop,
            "repaired": one.data.repaired,
            "actor": one.data.actor,
        }
        for one in sent
    ]
    return rendered | {"time": letter.time.isoformat(), **routing._asdict(), "sent": again}


def _render_record(letter: DeadLetter) -> dict[str, Any]:
    key, whole = decoded(letter.data.key), decoded(letter.data.value)
    return {
        "key": None if key is None else _visible(key[:MAX_SHOWN_BYTES]),
        "text": None if whole is None else _visible(whole[:MAX_SHOWN_BYTES]),
        "truncated": whole is not None and len(whole) > MAX_SHOWN_BYTES,
    }


def _visible(raw: bytes) -> str:
    """Bytes as text that a terminal and a page can show: what is neither printable nor a line's end is escaped."""
    text = raw.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
