"""Records the span of a gRPC call, by OpenTelemetry's conventions for servers of remote procedures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from everloop_serving.api.open_inference_grpc.statuses import code_of
from everloop_shared.errors import ServiceError
from everloop_shared.spans.recorder import SpanRecorder
from everloop_shared.spans.recorders import recorder_of
from everloop_shared.tracing import describing, traced

SERVICE = "inference.GRPCInferenceService"


class CallSpans:
    """Records spans of the calls of one service that were admitted."""

    def __init__(self, recorder: SpanRecorder) -> None:
        self._recorder = recorder

    async def answer(self, method: str, sent: str | None, answer: Callable[[str], Awaitable[bytes]]) -> bytes:
        """Answer a call with this `traceparent` in its metadata within its trace; raises what `answer` raises."""
        trace, span = self._recorder.begin_request(sent)
        if span is None:
            with traced(trace):
                return await answer(trace)
        span.name = f"{SERVICE}/{method}"
        span.attributes |= {"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": method}
        code, failure = "OK", None
        try:
            with traced(trace), describing(span.attributes):
                return await answer(trace)
        except ServiceError as e:
            code = code_of(e).name
            failure = code if e.http_status >= 500 else None
            raise
        except BaseException as e:
            code = failure = type(e).__name__
            raise
        finally:
            span.attributes["rpc.response.status_code"] = code
            self._recorder.end(span, failure)


def call_spans(service: str) -> CallSpans | None:
    """What records the calls of a service; None where nothing is recorded."""
    recorder = recorder_of(service)
    return None if recorder is None else CallSpans(recorder)
