"""What every call must pass: limits on their number, their bytes and their time; its trace; its errors as statuses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from everloop_serving.api.open_inference_grpc.peers import address_of
from everloop_serving.api.open_inference_grpc.refusals import CallAudit
from everloop_serving.api.open_inference_grpc.spans import call_spans
from everloop_serving.api.open_inference_grpc.statuses import code_of, text_of, trailers_of
from everloop_serving.metrics import GRPC_CALLS, GRPC_MESSAGE_BYTES, GRPC_SECONDS
from everloop_serving.settings import ServingSettings
from everloop_shared.access.callers import CallerLimits
from everloop_shared.access.identity import current_identity
from everloop_shared.errors import ErrorKind, InputRejected, Overloaded, ServiceError
from everloop_shared.tracing import new_traceparent, traced, valid_traceparent

if TYPE_CHECKING:
    from everloop_shared.audit.trail import AuditTrail

log = logging.getLogger(__name__)
MAX_CALLS_IN_PROGRESS = 1_000
MAX_CALLS_WITHOUT_MESSAGE = 1_000
"""Calls whose message has not arrived completely. The one that has waited longest makes room for a new one."""


@dataclass(frozen=True)
class Call:
    """What a call says beside its message; `seconds_left` is None where the client has set no deadline."""

    metadata: Mapping[str, str]
    traceparent: str
    seconds_left: float | None


Answer = Callable[[bytes, Call], Awaitable[bytes]]
"""Answers a message, encoded; raises a ServiceError where it cannot."""


class MessageTimeout(InputRejected):
    """The message of a call did not arrive in time."""

    kind = ErrorKind.TIMEOUT
    title = "Message timeout"


class MessageMissing(InputRejected):
    """The call ended without a message."""

    kind = ErrorKind.MALFORMED
    title = "Message missing"


class Calls:
    """The calls of one endpoint. One counts as in progress once its message is complete."""

    def __init__(
        self, settings: ServingSettings, limits: CallerLimits | None = None, trail: AuditTrail | None = None
    ) -> None:
        self._settings, self._limits, self._audit = settings, limits, CallAudit(trail)
        self._spans = call_spans("serving")
        self._waiting: dict[asyncio.Timeout, None] = {}
        self._in_progress = self._bytes = 0
        self._counters: dict[tuple[str, str], Any] = {}
        GRPC_MESSAGE_BYTES.set_function(lambda: self._bytes)

    def method(self, name: str, answer: Answer) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method with one message each way.

        To gRPC it is one of a stream of messages, because it then reads the message itself: there is no other way to
        limit how long a message may take, and how many calls wait for theirs.
        """

        seconds = GRPC_SECONDS.labels(name)

        async def handle(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            code, error, start = "OK", None, time.perf_counter()
            try:
                return await self._handle(name, answer, context)
            except ServiceError as e:
                error = e
                if e.http_status >= 500:
                    log.warning("call refused", extra={"method": name, "code": e.code, "reason": e.detail})
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except Exception as e:
                log.error("call failed", exc_info=e, extra={"method": name})
                error = ServiceError("the service failed; its log has the reason")
            finally:
                seconds.observe(time.perf_counter() - start)
                self._count(name, code if error is None else code_of(error).name)
            self._audit.note(error, name, context.peer(), current_identity())
            text = text_of(error)
            await context.abort(code_of(error), text, trailers_of(error, text))
            raise AssertionError("abort raises")

        return grpc.stream_unary_rpc_method_handler(handle)

    async def _handle(self, name: str, answer: Answer, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        limits = self._limits
        if limits is None or (caller := limits.of(current_identity(), address_of(context.peer()))) is None:
            return await self._take(name, answer, context, await self._read(context))
        await limits.admit(caller)
        with caller.working():
            message = await self._read(context)
            caller.take_bytes(len(message))
            return await self._take(name, answer, context, message)

    async def _take(
        self, name: str, answer: Answer, context: grpc.aio.ServicerContext[Any, Any], message: bytes
    ) -> bytes:
        if self._in_progress >= MAX_CALLS_IN_PROGRESS:
            raise Overloaded(f"{MAX_CALLS_IN_PROGRESS:,} calls are in progress, the limit; retry later")
        if self._bytes + len(message) > self._settings.max_bytes_in_flight:
            raise Overloaded(f"{self._bytes:,} bytes of messages are in memory, and no room for another; retry later")
        self._in_progress += 1
        self._bytes += len(message)
        try:
            metadata = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
            seconds_left, sent = context.time_remaining(), metadata.get("traceparent")
            if self._spans is not None:
                return await self._spans.answer(
                    name, sent, lambda trace: answer(message, Call(metadata, trace, seconds_left))
                )
            traceparent = valid_traceparent(sent) or new_traceparent()
            with traced(traceparent):
                return await answer(message, Call(metadata, traceparent, seconds_left))
        finally:
            self._in_progress -= 1
            self._bytes -= len(message)

    async def _read(self, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        """The message; raises MessageTimeout, MessageMissing, or Overloaded where too many newer calls wait too."""
        if len(self._waiting) >= MAX_CALLS_WITHOUT_MESSAGE:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())
        waiting = asyncio.timeout(self._settings.body_timeout_s)
        try:
            async with waiting:
                self._waiting[waiting] = None
                message = await context.read()
        except TimeoutError:
            if waiting in self._waiting:
                raise MessageTimeout(f"no message arrived within {self._settings.body_timeout_s:g} s") from None
            raise Overloaded("too many calls without their message; this one had waited longest") from None
        finally:
            self._waiting.pop(waiting, None)
        if not isinstance(message, bytes):
            raise MessageMissing("the call has no message; send one")
        return message

    def _count(self, method: str, code: str) -> None:
        counter = self._counters.get((method, code))
        if counter is None:
            counter = self._counters[method, code] = GRPC_CALLS.labels(method, code)
        counter.inc()
