"""The endpoints by which a dead letter goes again: by this service, or by its sender, who gives it to ingest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from everloop_monitoring.api.letter_schemas import FOUND, REFUSED, LetterPlan, SendBody, SentAgain, SentBody, SentTo
from everloop_monitoring.domain.letter_plans import SendPlan, plan_sending, require_same_record
from everloop_monitoring.domain.letters import ListedLetter, SentAs
from everloop_monitoring.handlers.letters import LetterHandlers
from everloop_monitoring.ports import LetterReader
from everloop_schemas.monitoring import DeadLetterSent
from everloop_shared.access.errors import NotPermitted
from everloop_shared.access.identity import Identity, current_identity
from everloop_shared.commands import Command, CommandEdge
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body

MAX_SEND_BYTES = 8_000_000
"""Of the body of a command, with a repaired record in base64."""
FindLetter = Callable[[str, str], Awaitable[tuple[ListedLetter, list[DeadLetterSent]]]]
"""Finds a letter by its id, if the caller may do this action to letters of its loop; raises NotPermitted."""


class Planned(NamedTuple):
    """A letter, what was sent of it before, and how it goes again."""

    letter: ListedLetter
    before: list[DeadLetterSent]
    plan: SendPlan


def add_sending(
    routes: APIRouter, reader: LetterReader, find: FindLetter, handlers: LetterHandlers, commands: CommandEdge
) -> None:
    """Add the routes that plan and send."""
    described = describe_body(SendBody, required=False)

    async def plan_of(id: str, body: SendBody) -> Planned:
        listed, before = await find(id, "letters.send")
        letter = await reader.read(listed)
        plan = plan_sending(letter, body.value)
        asks = current_identity()
        _require_sender(asks, plan)
        if not _may_publish(asks, plan):
            require_same_record(letter, plan, [sent.data.digest for sent in before])
        return Planned(listed, before, plan)

    async def send(id: str, planned: Planned, command: Command, authorization: str | None) -> dict[str, Any]:
        listed, before, plan = planned
        event = await handlers.deliver(listed, plan, before, authorization)
        sent = plan.sent_as(event)
        events = await command.run(lambda actor: handlers.record_sent(listed, sent, actor, plan.event))
        return {"id": id, "sent": bool(events), "to": plan.to, "event": event}

    @routes.post("/{id}/plan", response_model=LetterPlan, responses=REFUSED, openapi_extra=described)
    async def plan_sending_dead_letter(id: str, request: Request) -> JSONResponse:
        """What sending its record would do, as it was or repaired; sends nothing."""
        await commands.accept(request.headers)
        planned = await plan_of(id, await command_body(SendBody, request, MAX_SEND_BYTES, required=False))
        return JSONResponse(_render_plan(planned.plan))

    @routes.post("/{id}/send", response_model=SentTo, responses=REFUSED, openapi_extra=described)
    async def send_dead_letter(id: str, request: Request) -> JSONResponse:
        """Send its record again, by ingest or on its topic, under the same id; the same bytes go once."""
        command = await commands.accept(request.headers)
        body = await command_body(SendBody, request, MAX_SEND_BYTES, required=False)
        planned, authorization = await plan_of(id, body), request.headers.get("authorization")
        if _may_publish(current_identity(), planned.plan):
            return JSONResponse(await send(id, planned, command, authorization))
        async with handlers.turn:  # what was sent before is looked at and added to by one after the other
            own = handlers.own_authorization() or authorization
            return JSONResponse(await send(id, await plan_of(id, body), command, own))


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
    request = plan.request and {"path": plan.request.path, "body": plan.request.body}
    return rendered | {"request": request}


def _require_sender(asks: Identity, plan: SendPlan) -> None:
    """Raises NotPermitted where the caller may not send this letter, or rewrite a record that a service wrote."""
    asks.require("letters.send", plan.loop)  # a repaired record may be of another loop than the letter
    if plan.event is not None and plan.repaired and not asks.is_admin_of(plan.loop):
        raise NotPermitted(
            f"{asks.subject} may not change a record of {plan.event.topic.name}, which a service alone writes: that "
            "takes the role admin; send it as it was"
        )


def _may_publish(asks: Identity, plan: SendPlan) -> bool:
    """Whether ingest would take the request from the sender."""
    return plan.request is None or all(asks.may(action, plan.loop) for action in plan.request.actions)
