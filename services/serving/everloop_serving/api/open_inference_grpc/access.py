"""Who may call: every call but those of health needs a token, and a role for the action of its method."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from everloop_schemas.access.routes import GRPC, OPEN_GRPC
from everloop_serving.api.open_inference_grpc.peers import address_of
from everloop_serving.api.open_inference_grpc.refusals import CallAudit
from everloop_serving.api.open_inference_grpc.statuses import code_of, text_of, trailers_of
from everloop_shared.access.callers import CallerLimits
from everloop_shared.access.control import Authenticator
from everloop_shared.access.errors import CallerLimited, NotPermitted
from everloop_shared.access.identity import EVERYBODY, Identity, become
from everloop_shared.errors import ServiceError

if TYPE_CHECKING:
    from everloop_shared.audit.trail import AuditTrail

    Handler = grpc.RpcMethodHandler[Any, Any]


class RequireRole(grpc.aio.ServerInterceptor):
    """Refuses a call before its message is read; the method itself checks the loop that its message names.

    A method without a rule is refused to everybody. Each further request of an open stream is checked as the first one
    was, so that a key that has ended is of no use in a stream that was opened before.
    """

    def __init__(
        self, authenticator: Authenticator, limits: CallerLimits | None = None, trail: AuditTrail | None = None
    ) -> None:
        self._authenticator, self._limits, self._audit = authenticator, limits, CallAudit(trail)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of the call, or one that refuses it."""
        method = handler_call_details.method
        if method in OPEN_GRPC:
            return await continuation(handler_call_details)
        identity = EVERYBODY
        try:
            identity = await self._authenticator.identify(_authorization(handler_call_details))
            become(identity)  # gRPC answers a call in the task that asks its interceptors
            handler = await continuation(handler_call_details)
            if handler is None:  # gRPC says that there is no such method
                return None
            _require(identity, method)
            return self._checking_each(handler, handler_call_details) if handler.stream_stream else handler
        except ServiceError as e:
            return grpc.stream_unary_rpc_method_handler(self._refuse(e, method, identity))

    def _refuse(self, error: ServiceError, method: str, identity: Identity) -> Callable[..., Awaitable[NoReturn]]:
        async def refuse(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
            told = error
            if self._limits is not None:
                try:
                    await self._limits.admit_stranger(address_of(context.peer()))
                except CallerLimited as e:
                    told = e
            self._audit.note(told, method, context.peer(), identity)
            text = text_of(told)
            await context.abort(code_of(told), text, trailers_of(told, text))
            raise AssertionError("abort raises")

        return refuse

    def _checking_each(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        """The handler of a stream, to which no request comes whose caller may not any more."""
        authorization, method = _authorization(details), str(details.method)
        served: Any = handler.stream_stream

        async def checked(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async for request in requests:
                identity = EVERYBODY
                try:
                    identity = await self._authenticator.identify(authorization)
                    _require(identity, method)
                except ServiceError as e:
                    await self._refuse(e, method, identity)(request, context)
                yield request

        async def answer(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> None:
            found = served(checked(requests, context), context)
            if isinstance(found, Awaitable):  # it writes its answers itself
                await found
                return
            async for one in found:
                await context.write(one)

        return grpc.stream_stream_rpc_method_handler(
            answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _require(identity: Identity, method: str) -> None:
    action = GRPC.get(method)
    if action is None:
        raise NotPermitted(f"{method} has no rule of access, so nobody may call it")
    if not identity.may_somewhere(action):
        raise identity.refusal(action, "for any loop")


def _authorization(details: grpc.HandlerCallDetails) -> bytes | None:
    found = [value for name, value in details.invocation_metadata or () if name == "authorization"]
    if len(found) != 1:  # two of them are as good as none: which one counts would be anybody's guess
        return None
    return found[0].encode("latin-1", errors="replace") if isinstance(found[0], str) else found[0]
