"""The ways to sign in at the console: each answers with a session, in a cookie and a CSRF token."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from everloop_monitoring.api.session import NoBody
from everloop_monitoring.domain.pending_sign_in import PendingSignIn
from everloop_monitoring.handlers.sign_in import SignedIn, SignInHandlers
from everloop_shared.access.control import MAX_TOKEN_LENGTH
from everloop_shared.audit.trail import AuditTrail
from everloop_shared.http.audited import record_as
from everloop_shared.http.browser_sessions import BrowserSessions, StrictCookie
from everloop_shared.http.json_body import command_body

log = logging.getLogger(__name__)
MAX_BYTES = 20_000
PENDING_S = 600
"""How long somebody may take at the provider."""


class TokenBody(BaseModel):
    """A key, or a token of the provider."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(min_length=1, max_length=MAX_TOKEN_LENGTH)


class CodeBody(BaseModel):
    """A code of `POST /v1/session/codes`."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(min_length=1, max_length=200)


class ReturnBody(BaseModel):
    """What the provider's answer has in its address."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(min_length=1, max_length=4_000)
    state: str = Field(min_length=1, max_length=200)
    iss: str | None = Field(None, max_length=2_000)


def sign_in_router(handlers: SignInHandlers, sessions: BrowserSessions, trail: AuditTrail | None = None) -> APIRouter:
    """The routes, which take no token. They are no part of the OpenAPI document: they are the page's alone.

    Nobody is signed in whom `trail` does not record.
    """
    api = APIRouter(prefix="/sign-in", include_in_schema=False)
    waiting = StrictCookie(f"{sessions.cookie.name}-pending", sessions.cookie.secure)

    async def signed_in(request: Request, found: SignedIn) -> JSONResponse:
        if trail is not None:
            await record_as(found.identity, trail, request.scope)
        sent = request.headers.get("cookie", "").encode("latin-1")
        log.info("signed in", extra={"subject": found.identity.subject, "kind": found.identity.kind})
        begun = sessions.begin(found.token, found.identity.subject, sent)
        answer = JSONResponse({"subject": found.identity.subject, "csrf": begun.csrf})
        answer.headers.append("set-cookie", sessions.cookie.with_value(begun.id))
        return answer

    @api.post("/key")
    async def sign_in_with_key(request: Request) -> JSONResponse:
        body = await command_body(TokenBody, request, MAX_BYTES)
        return await signed_in(request, await handlers.by_token(body.token.strip()))

    @api.post("/code")
    async def sign_in_with_code(request: Request) -> JSONResponse:
        body = await command_body(CodeBody, request, MAX_BYTES)
        return await signed_in(request, await handlers.by_code(body.code))

    @api.post("/provider")
    async def begin_at_provider(request: Request) -> JSONResponse:
        await command_body(NoBody, request, MAX_BYTES, required=False)
        pending, address = await handlers.begin()
        answer = JSONResponse({"address": address, "state": pending.state})
        answer.headers.append("set-cookie", waiting.with_value(pending.text, PENDING_S))
        return answer

    @api.post("/return")
    async def return_from_provider(request: Request) -> JSONResponse:
        body = await command_body(ReturnBody, request, MAX_BYTES)
        pending = PendingSignIn.from_text(waiting.read(request.headers.get("cookie", "").encode("latin-1")))
        answer = await signed_in(request, await handlers.finish(pending, body.code, body.state, body.iss))
        answer.headers.append("set-cookie", waiting.cleared())
        return answer

    return api
