"""The endpoints by which a dead letter goes again: by this service, or by its sender, who gives it to ingest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from everloop_monitoring.api.letter_schemas import FOUND, REFUSED, LetterPlan, SendBody, SentAgain, SentBody, SentTo
from everloop_monitoring.domain.letter_plans import SendPlan, plan_sending
from everloop_monitoring.domain.letters import ListedLetter, SentAs
from everloop_monitoring.handlers.letters import LetterHandlers
from everloop_monitoring.ports import LetterReader
from everloop_schemas.monitoring import DeadLetterSent
from everloop_shared.access.identity import current_identity
from everloop_shared.commands import CommandEdge
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body

MAX_SEND_BYTES = 8_000_000
"""Of the body of a command, with a repaired record in base64."""
FindLetter = Callable[[str, str], Awaitable[tuple[ListedLetter, list[DeadLetterSent]]]]
"""Finds a letter by its id, if the caller may do this action to letters of its loop; raises NotPermitted."""


def add_sending(
    routes: APIRouter, reader: LetterReader, find: FindLetter, handlers: LetterHandlers, commands: CommandEdge
) -> None:
    """Add the routes that plan and send."""
    described = describe_body(SendBody, required=False)

    async def plan_of(id: str, request: Request) -> tuple[ListedLetter, list[DeadLetterSent], SendPlan]:
        body = await command_body(SendBody, request, MAX_SEND_BYTES, required=False)
        listed, before = await find(id, "letters.send")
        plan = plan_sending(await reader.read(listed), body.value)
        current_identity().require("letters.send", plan.loop)  # a repaired record may be of another than the letter
        return listed, before, plan

    @routes.post("/{id}/plan", response_model=LetterPlan, responses=REFUSED, openapi_extra=described)
    async def plan_sending_dead_letter(id: str, request: Request) -> JSONResponse:
        """What sending its record would do, as it was or repaired; sends nothing."""
        await commands.accept(request.headers)
        _, _, plan = await plan_of(id, request)
        return JSONResponse(_render_plan(plan))

    @routes.post("/{id}/send", response_model=SentTo, responses=REFUSED, openapi_extra=described)
    async def send_dead_letter(id: str, request: Request) -> JSONResponse:
        """Send its record again, by ingest or on its topic, under the same id; the same bytes go once."""
        command = await commands.accept(request.headers)
        listed, before, plan = await plan_of(id, request)
        event = await handlers.deliver(listed, plan, before, request.headers.get("authorization"))
        sent = plan.sent_as(event)
        events = await command.run(lambda actor: handlers.record_sent(listed, sent, actor, plan.event))
        return JSONResponse({"id": id, "sent": bool(events), "to": plan.to, "event": event})


def add_memory(routes: APIRouter, find: FindLetter, handlers: LetterHandlers, commands: CommandEdge) -> None:
    """Add the route by which a sender who gave a record to ingest says so."""

    @routes.post("/{id}/sent", response_model=SentAgain, responses=FOUND, openapi_extra=describe_body(SentBody))
    async def record_sent_dead_letter(id: str, request: Request) -> JSONResponse:
        """Remember that its sender gave its record to ingest again."""
        command = await commands.accept(request.headers)
        body = await command_body(SentBody, request, MAX_SEND_BYTES)
        listed, _ = await find(id, "letters.send")
        current_identity().require("letters.send", body.loop)
        events = await command.run(lambda actor: handlers.record_sent(listed, SentAs(**dict(body)), actor))
        return JSONResponse({"id": id, "sent": bool(events)})


def _render_plan(plan: SendPlan) -> dict[str, Any]:
    rendered = {"to": plan.to, "loop": plan.loop, "digest": plan.digest, "repaired": plan.repaired}
    return rendered | {"request": plan.request and plan.request._asdict()}
