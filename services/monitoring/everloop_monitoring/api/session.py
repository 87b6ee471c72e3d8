"""Who asks, what they may do on the console, and the way out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from everloop_monitoring.errors import AccessIsOff
from everloop_monitoring.handlers.sign_in import SignInHandlers
from everloop_shared.access.control import bearer_token
from everloop_shared.access.errors import NotPermitted
from everloop_shared.access.identity import Identity, current_identity
from everloop_shared.access.sessions import CODE_S
from everloop_shared.http.browser_sessions import SESSION, BrowserSessions
from everloop_shared.http.json_body import command_body
from everloop_shared.http.openapi import describe_body

MAX_BYTES = 1_000
PAGE_ACTIONS = ("predictions.read", "letters.read", "letters.send", "rollout.change")
"""What the page offers to those alone who may do it."""
NO_LOOP = ""


class NoBody(BaseModel):
    """Nothing."""

    model_config = ConfigDict(extra="forbid")


class Asker(BaseModel):
    """Whoever asks."""

    subject: str
    kind: str = Field(description="how the subject is known: anonymous, key, token or service")
    signed_in: bool = Field(description="by a session, which has a way out")
    may: list[str] = Field(description="what they may do with what belongs to no loop")
    verdicts: bool = Field(description="whether monitoring knows the registry, to which verdicts go")


class Ended(BaseModel):
    """The session has ended."""

    signed_in: bool


class IssuedCode(BaseModel):
    """A code by which one browser signs in, once."""

    code: str
    expires_in: float = Field(description="seconds")


_OFF: dict[int | str, dict[str, Any]] = {409: {"description": "Nobody has to sign in: EVERLOOP_AUTH is off."}}


def allowed_actions(asks: Identity, loop: str) -> list[str]:
    """What somebody may do on the console about this loop."""
    return [action for action in PAGE_ACTIONS if asks.may(action, loop)]


def session_router(
    handlers: SignInHandlers | None, sessions: BrowserSessions | None, *, has_verdicts: bool
) -> APIRouter:
    """The routes; `handlers` and `sessions` are None where nobody has to sign in."""
    api = APIRouter(prefix="/v1/session")

    @api.get("", response_model=Asker)
    async def get_session(request: Request) -> JSONResponse:
        """Who asks, and what they may do here."""
        asks = current_identity()
        may = allowed_actions(asks, NO_LOOP)
        about = {"subject": asks.subject, "kind": asks.kind, "signed_in": SESSION in request.scope}
        return JSONResponse({**about, "may": may, "verdicts": has_verdicts})

    @api.delete("", response_model=Ended)
    async def end_session(request: Request) -> JSONResponse:
        """Sign out."""
        answer = JSONResponse({"signed_in": False})
        if sessions and (found := request.scope.get(SESSION)):
            sessions.sessions.end(found.id)
            answer.headers.append("set-cookie", sessions.cookie.cleared())
        return answer

    @api.post("/codes", response_model=IssuedCode, responses=_OFF, openapi_extra=describe_body(NoBody, required=False))
    async def issue_code(request: Request) -> JSONResponse:
        """A code in place of the token of this request, with which a browser signs in at `/sign-in#code=CODE`."""
        if handlers is None:
            raise AccessIsOff("nobody has to sign in: EVERLOOP_AUTH is off")
        if SESSION in request.scope:  # it would go on beyond its end
            raise NotPermitted("a session gives no code that begins another: ask with the key or token itself")
        await command_body(NoBody, request, MAX_BYTES, required=False)
        token = bearer_token(request.headers.get("authorization", "").encode("latin-1"))
        return JSONResponse({"code": handlers.codes.issue(token, current_identity().subject), "expires_in": CODE_S})

    return api
