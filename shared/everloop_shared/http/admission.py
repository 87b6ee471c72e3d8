"""Who asks, whether they may, and whether they ask for too much: what stands before a route where that is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope

from everloop_shared.access.errors import NotAuthenticated, NotPermitted
from everloop_shared.access.identity import EVERYBODY, STRANGER, Identity, acting_for
from everloop_shared.access.limits import Caller
from everloop_shared.http.audited import AUDITED
from everloop_shared.http.bodies import counted
from everloop_shared.http.browser_sessions import SESSION, BrowserSessions
from everloop_shared.http.direct import DirectAnswer, Headers, ImmediateAnswer
from everloop_shared.http.problems import Forbidden
from everloop_shared.settings import Settings

if TYPE_CHECKING:
    from everloop_shared.access.callers import CallerLimits
    from everloop_shared.access.control import AccessControl

AnswerAtOnce = Callable[[str, Headers, bytes], DirectAnswer | asyncio.Future[DirectAnswer] | None]


class Admission:
    """Asks each request for its token, its role and its caller's limits; `access` or `limits` may be None.

    With `sessions` a browser that has signed in is known without a token in its requests.
    """

    def __init__(
        self, access: AccessControl | None, limits: CallerLimits | None, sessions: BrowserSessions | None = None
    ) -> None:
        self.access, self._limits, self._sessions = access, limits, sessions

    async def take(
        self,
        headers: Mapping[bytes, bytes],
        scope: Scope,
        receive: Receive,
        is_route: Callable[[], bool],
        handle: Callable[[Receive], Awaitable[None]],
    ) -> None:
        """Have a request handled: nothing of its body is read before its caller is known and within their limits.

        Raises NotAuthenticated, NotPermitted or CallerLimited.
        """
        identity = await self._identify(headers, scope, is_route)
        with acting_for(identity):
            limits = self._limits
            if limits is None or (caller := limits.of(identity, _address(scope))) is None:
                await handle(receive)
                return
            await limits.admit(caller)
            with caller.working():
                await handle(counted(receive, caller.take_bytes))

    async def count_stranger(self, scope: Scope) -> None:
        """A request that is refused before its caller is known counts as its address's; raises CallerLimited."""
        if self._limits is not None:
            await self._limits.admit_stranger(_address(scope))

    def admit_at_once(
        self, url: str, headers: Mapping[bytes, bytes], address: str, answer: ImmediateAnswer
    ) -> AnswerAtOnce | None:
        """What answers a POST request for its caller; None where it must come through `take`, which says why."""
        identity: Identity = EVERYBODY
        admitted: AnswerAtOnce = answer
        if self.access is not None:
            known = self.access.admit_at_once("POST", url, headers.get(b"authorization"))
            if known is None:
                return None
            identity, admitted = known, partial(_answer_for, known, answer)
        if self._limits is not None and (caller := self._limits.of(identity, address)) is not None:
            return partial(_answer_counted, caller, admitted) if self._limits.may_pass(caller) else None
        return admitted

    async def _identify(self, headers: Mapping[bytes, bytes], scope: Scope, is_route: Callable[[], bool]) -> Identity:
        if self.access is None:
            return EVERYBODY
        if self.access.is_open(scope["method"], scope["path"]):
            return STRANGER
        try:
            return await self._admit(self.access, headers, scope, is_route)
        except (NotAuthenticated, NotPermitted, Forbidden):
            await self.count_stranger(scope)
            raise

    async def _admit(
        self, access: AccessControl, headers: Mapping[bytes, bytes], scope: Scope, is_route: Callable[[], bool]
    ) -> Identity:
        identity = await self._known(access, headers, scope)
        if (audited := scope.get(AUDITED)) is not None:
            audited.identity = identity
        access.require(identity, scope["method"], scope["path"], is_route)
        return identity

    async def _known(self, access: AccessControl, headers: Mapping[bytes, bytes], scope: Scope) -> Identity:
        """Who asks: by the token of the request, or else by that of its session."""
        authorization = headers.get(b"authorization")
        if authorization is not None or self._sessions is None:
            return await access.identify(authorization)
        found = self._sessions.find(scope["method"], headers)
        if found is None:
            return await access.identify(None)
        scope[SESSION] = found
        scope["headers"] = [*scope["headers"], (b"authorization", found.authorization)]  # as if it had come with it
        try:
            return await access.identify(found.authorization)
        except NotAuthenticated:
            self._sessions.sessions.end(found.id)
            raise


def admission(settings: Settings, service: str, sessions: BrowserSessions | None = None) -> Admission | None:
    """What is asked by these settings; None where nothing is. Raises Misconfigured."""
    access: AccessControl | None = None
    limits: CallerLimits | None = None
    if settings.has_access_control:  # where nobody asks, it is not loaded
        from everloop_shared.access.control import access_control

        access = access_control(settings, service)
    if settings.has_caller_limits:
        from everloop_shared.access.callers import CallerLimits

        limits = CallerLimits(service, settings)
    return Admission(access, limits, sessions) if access is not None or limits is not None else None


def _answer_for(
    identity: Identity, answer: AnswerAtOnce, name: str, headers: Headers, body: bytes
) -> DirectAnswer | asyncio.Future[DirectAnswer] | None:
    with acting_for(identity):
        return answer(name, headers, body)


def _answer_counted(
    caller: Caller, answer: AnswerAtOnce, name: str, headers: Headers, body: bytes
) -> DirectAnswer | asyncio.Future[DirectAnswer] | None:
    """Count a request that is answered, also with an error; one that is declined counts when it comes again."""
    try:
        with caller.paying():
            answered = answer(name, headers, body)
    except Exception:
        caller.take_request(len(body))
        raise
    if answered is not None:
        caller.take_request(len(body))
    if isinstance(answered, asyncio.Future):
        caller.begin()
        answered.add_done_callback(lambda _: caller.end())
    return answered


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
