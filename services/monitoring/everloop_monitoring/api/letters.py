"""The endpoints of dead letters: the list, and one of them with its record."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from pydantic import AwareDatetime

from everloop_monitoring.api.letter_schemas import BYTES, FOUND, REFUSED, Letter, LetterList, ShownLetter
from everloop_monitoring.api.letter_sending import FindLetter, add_memory, add_sending
from everloop_monitoring.domain.letter_plans import text_of
from everloop_monitoring.domain.letters import MAX_LETTERS, ListedLetter, Routing, decoded, routing_of, with_record
from everloop_monitoring.handlers.letters import LetterHandlers
from everloop_monitoring.ports import LetterReader
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.monitoring import DeadLetterSent
from everloop_shared.access.identity import current_identity
from everloop_shared.commands import CommandEdge

MAX_SHOWN_BYTES = 20_000
"""How much of a record is shown as text; the rest is in the file that `/value` answers."""
Limit = Annotated[int, Query(ge=1, le=MAX_LETTERS, description="how many, counted from the newest")]
Service = Annotated[str | None, Query(max_length=32, description="of this service only")]
OfLoop = Annotated[str | None, Query(max_length=63, description="of this loop only; empty: of records without one")]
Since = Annotated[AwareDatetime | None, Query(description="whose record is not older, RFC 3339")]


def letter_router(reader: LetterReader, handlers: LetterHandlers, commands: CommandEdge) -> APIRouter:
    """The routes below /v1/dead-letters."""
    routes = APIRouter(prefix="/v1/dead-letters")
    find = _only_permitted(reader)
    _add_queries(routes, reader, find, handlers)
    add_sending(routes, reader, find, handlers, commands)
    add_memory(routes, find, handlers, commands)
    return routes


def _only_permitted(reader: LetterReader) -> FindLetter:
    async def find(id: str, action: str) -> tuple[ListedLetter, list[DeadLetterSent]]:
        listed, sent = await reader.letter(id)
        current_identity().require(action, listed.loop)
        return listed, sent

    return find


def _add_queries(routes: APIRouter, reader: LetterReader, find: FindLetter, handlers: LetterHandlers) -> None:
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

    @routes.get("/{id}", response_model=ShownLetter, responses=FOUND)
    async def get_dead_letter(id: str) -> JSONResponse:
        """One of them, with its record as text."""
        listed, sent = await find(id, "letters.read")
        letter = await reader.read(listed)
        routing = with_record(routing_of(listed.topic, listed.reader), letter)
        rendered = _render(listed, sent, routing)
        by_command = rendered["way"] in ("ingest", "source") and handlers.ingest is None
        return JSONResponse(rendered | _render_record(letter) | {"by_command": by_command})

    @routes.get("/{id}/value", response_class=Response, responses=BYTES)
    async def get_dead_letter_value(id: str) -> Response:
        """Its record as it lay on its topic, for a file."""
        listed, _ = await find(id, "letters.read")
        return _file(decoded((await reader.read(listed)).data.value) or b"")

    @routes.get("/{id}/body", response_class=Response, responses={**BYTES, 422: REFUSED[422]})
    async def get_dead_letter_body(id: str) -> Response:
        """What a repair begins with: of a record for ingest the body that its endpoint takes, JSON in lines."""
        listed, _ = await find(id, "letters.read")
        return _file(text_of(await reader.read(listed)))


def _file(content: bytes) -> Response:
    headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _render(letter: ListedLetter, sent: list[DeadLetterSent], known: Routing | None = None) -> dict[str, Any]:
    routing = known or routing_of(letter.topic, letter.reader)
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
