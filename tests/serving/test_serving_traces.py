"""Requests of serving as spans: by REST over a socket, the framework's route and gRPC, with their version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from tests.builders.otlp import Collector, by_name, collector
from tests.serving.grpc_calls import grpc_client, typed

from everloop.local.ports import HOST, free_port
from everloop_schemas.serving import VersionState
from everloop_shared.http import HttpEndpoint
from everloop_shared.spans.recorders import recorder_of

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app
SPAN = "00f067aa0ba902b7"
ROW = {"data": {"price": 0.1, "demand": 0.5}, "entity": "anna"}
AT_ONCE, BY_FRAMEWORK, BY_GRPC, REFUSED = (f"{digit * 32}" for digit in "abcd")


def sampled(trace: str) -> dict[str, str]:
    """The header of an application that has sampled its trace."""
    return {"traceparent": f"00-{trace}-{SPAN}-01"}


async def ask_all(serving: RunningServing, collected: Collector) -> None:
    """One request by each way in, and one that is refused; then stop, so that all spans are sent."""
    port = free_port()
    await serving.publish(serving.state())
    service = await serving.start(grpc_port=port, otlp_url=collected.url, trace_sampling=0.0)
    http = cast(HttpEndpoint, service.endpoints[0])
    path = "/v1/loops/market/predict"
    event: dict[str, Any] = {"specversion": "1.0", "id": "ce", "source": "shop", "type": "order", "data": ROW["data"]}
    cloudevent = sampled(BY_FRAMEWORK) | {"content-type": "application/cloudevents+json"}
    async with (
        httpx.AsyncClient(base_url=f"http://{HOST}:{http.port}", trust_env=False) as client,
        grpc_client(port) as caller,
    ):
        for headers, body in (
            (sampled(AT_ONCE), ROW),
            (cloudevent, event),
            (sampled(REFUSED), {"data": {}}),
            ({}, ROW),
        ):
            await client.post(path, json=body, headers=headers)
        request = typed({"price": [0.1], "demand": [0.5]}, id="one")
        await caller.infer(request, metadata=tuple(sampled(BY_GRPC).items()))
        await serving.until(lambda: len(serving.predictions()) == 4)
    await serving.stop()


async def test_each_way_in_is_a_span_with_its_version_and_the_records_continue_it(serving: RunningServing) -> None:
    with collector() as collected:
        await ask_all(serving, collected)

    requests = {trace: collected.spans(trace) for trace in (AT_ONCE, BY_FRAMEWORK, REFUSED)}
    called = by_name(collected.spans(BY_GRPC), "serving", "inference.GRPCInferenceService/ModelInfer")
    predicted = {"everloop.version": "0", "everloop.role": "baseline", "everloop.predictions": 1}
    for trace, [span] in requests.items():
        assert (span.name, span.kind, span.parent_id) == ("POST /v1/loops/{loop}/predict", "server", SPAN)
        status = 422 if trace == REFUSED else 200
        assert span.attributes == (
            {
                "http.request.method": "POST",
                "http.route": "/v1/loops/{loop}/predict",
                "http.response.status_code": status,
                "everloop.loop": "market",
            }
            | ({} if trace == REFUSED else predicted)
        )
    assert called.attributes == {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "rpc.response.status_code": "OK",
        **predicted,
    }
    made = {(p.traceparent or "")[3:35]: p.traceparent for p in serving.predictions()}
    for trace, span in ((AT_ONCE, requests[AT_ONCE][0]), (BY_FRAMEWORK, requests[BY_FRAMEWORK][0]), (BY_GRPC, called)):
        assert made[trace] == f"00-{trace}-{span.span_id}-01"
    assert len(collected.spans()) == 4, "the request that was not sampled has none"
    assert recorder_of("serving") is None, "stopped with the service"


async def test_the_load_of_a_version_continues_the_trace_of_the_decision_so_that_a_rollout_is_one(
    serving: RunningServing,
) -> None:
    with collector() as collected:
        decided = serving.state(serving.version("logistic-0@1")).copy_with(traceparent=sampled(AT_ONCE)["traceparent"])
        await serving.start(otlp_url=collected.url, trace_sampling=0.0)
        await serving.publish(decided)
        await serving.until(lambda: serving.version_states() == [("logistic-0@1", "ready")], 40)
        await serving.stop()

    state = by_name(collected.spans(AT_ONCE), "serving", "process registry.loop_state.v1")
    [report] = serving.broker.events(VersionState.topic)
    assert (state.parent_id, report.traceparent) == (SPAN, f"00-{AT_ONCE}-{state.span_id}-01")
