"""Who may call serving by gRPC: every method of the server but health asks for a token, a role, and the loop's."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]
from tests.access import add_key, bearer
from tests.serving.grpc_calls import GrpcClient, details_of, grpc_client, typed

from everloop.local.ports import HOST, free_port
from everloop_schemas.access.routes import GRPC, OPEN_GRPC
from everloop_schemas.audit import RequestRecorded
from everloop_serving.api.open_inference_grpc import access
from everloop_serving.api.open_inference_grpc.endpoint import GrpcEndpoint
from everloop_serving.api.open_inference_grpc.peers import address_of
from everloop_serving.api.open_inference_grpc.protocol import open_inference_pb2 as pb
from everloop_shared.access.key_file import GrantedRole, KeyFile, change_key_file
from everloop_shared.access.limits import Limits
from everloop_shared.clock import system_clock

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app
OBSERVATION = {"data": {"price": 0.5, "demand": 0.5}}
METHODS = tuple(method.rpartition("/")[2] for method in GRPC if "Inference" in method)


@asynccontextmanager
async def guarded(serving: RunningServing, file: Path, port: int = 0, **more: Any) -> AsyncIterator[GrpcClient]:
    """A client of serving with access control and a loop `market`."""
    grpc_port = free_port()
    await serving.publish(serving.state(None))
    await serving.start(port=port, grpc_port=grpc_port, auth="on", auth_keys=file, **more)
    async with grpc_client(grpc_port) as client:
        yield client


async def code_of(client: GrpcClient, method: str, token: str | None, model: str = "market") -> str:
    """How a call ends; a message that names a model names this one."""
    kind: Any = getattr(pb, f"{method}Request")
    request: Any = typed(model=model) if method == "ModelInfer" else kind()
    if "name" in kind.DESCRIPTOR.fields_by_name:
        request.name = model
    try:
        await client(method, request, metadata=tuple(bearer(token).items()) if token else None)
    except grpc.aio.AioRpcError as e:
        return str(e.code().name)
    return "OK"


async def test_every_method_but_health_asks_for_a_token(
    serving: RunningServing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_key(tmp_path / "keys.json", "root", "admin")
    methods: list[str] = []
    original = GrpcEndpoint._methods  # noqa: SLF001

    def spy(endpoint: GrpcEndpoint, health: Any) -> Any:
        found = original(endpoint, health)
        methods.extend(found)
        return found

    monkeypatch.setattr(GrpcEndpoint, "_methods", spy)
    async with guarded(serving, tmp_path / "keys.json") as client:
        without = {method: await code_of(client, method, None) for method in METHODS}
        wrong = {method: await code_of(client, method, "evl_0123456789_00") for method in METHODS}
        health = health_pb2_grpc.HealthStub(client.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        reflection = reflection_pb2_grpc.ServerReflectionStub(client.channel)
        asked = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asked.read()

    assert set(methods) == {*GRPC, *OPEN_GRPC}, "a method without a rule is refused to everybody"
    assert without == wrong == dict.fromkeys(METHODS, "UNAUTHENTICATED")
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_role_for_the_loop_is_needed(serving: RunningServing, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    mine = add_key(file, "mine", GrantedRole(role="predictor", loops=("mar*",)))
    others = add_key(file, "others", GrantedRole(role="predictor", loops=("fraud",)))
    labeler = add_key(file, "labeler", "labeler")

    async with guarded(serving, file) as client:
        without = await code_of(client, "ModelInfer", None)
        codes = {
            token: [await code_of(client, method, token) for method in ("ModelInfer", "ModelMetadata", "ServerLive")]
            for token in (mine, others, labeler)
        }
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.infer(typed(), metadata=tuple(bearer(others).items()))
        after = await code_of(client, "ModelInfer", mine)
    await serving.stop()
    audited = [e for e in serving.broker.events(RequestRecorded.topic) if isinstance(e, RequestRecorded)]
    audited.sort(key=lambda one: one.time)

    assert without == "UNAUTHENTICATED"
    assert [(one.actor, one.loop, one.data.action, one.data.status, one.data.refused) for one in audited[:3]] == [
        ("anonymous", "*", "predict", 401, "not_authenticated"),
        ("others", "market", "predict", 403, "not_permitted"),
        ("others", "market", "models.read", 403, "not_permitted"),
    ]
    assert {(one.data.method, one.data.address, one.source) for one in audited[:3]} == {
        ("grpc", "127.0.0.1", "everloop/serving")
    }
    assert sum(one.data.left_out + (one.data.phase == "refused") for one in audited) == 6, "3 of them have no record"
    assert codes == {
        mine: ["OK", "OK", "OK"],
        others: ["PERMISSION_DENIED", "PERMISSION_DENIED", "OK"],
        labeler: ["PERMISSION_DENIED", "PERMISSION_DENIED", "OK"],
    }
    assert "others may not predict for loop market" in str(refused.value.details())
    assert details_of(refused.value)["ErrorInfo"].reason == "NOT_PERMITTED"
    assert after == "OK", "an identity does not stay for the next call of the connection"


async def test_a_method_without_a_rule_is_refused_to_everybody(
    serving: RunningServing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = add_key(tmp_path / "keys.json", "root", "admin")
    monkeypatch.setattr(access, "GRPC", {})

    async with guarded(serving, tmp_path / "keys.json") as client:
        code = await code_of(client, "ServerLive", root)

    assert code == "PERMISSION_DENIED"


async def test_rest_of_serving_asks_too_and_an_answer_at_once_is_for_those_who_may(
    serving: RunningServing, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    mine = add_key(file, "mine", GrantedRole(role="predictor", loops=("mar*",)))
    others = add_key(file, "others", GrantedRole(role="predictor", loops=("fraud",)))

    port = free_port()
    async with guarded(serving, file, port=port), httpx.AsyncClient(base_url=f"http://{HOST}:{port}") as http:
        statuses = [
            (await http.post("/v1/loops/market/predict", json=OBSERVATION, headers=sent))
            for sent in ({}, bearer(mine), bearer(others), bearer(mine + "0"), bearer(mine))
        ]

    assert [s.status_code for s in statuses] == [401, 200, 403, 401, 200]
    assert [s.headers.get("www-authenticate") for s in statuses] == [
        "Bearer",
        None,
        None,
        'Bearer error="invalid_token"',
        None,
    ]


async def test_a_caller_has_limits_by_grpc_and_rest_and_others_are_answered(
    serving: RunningServing, tmp_path: Path
) -> None:
    file, port = tmp_path / "keys.json", free_port()
    noisy = add_key(file, "noisy", "predictor", limits=Limits(rows_per_s=0.01))
    calm = add_key(file, "calm", "predictor")
    settings = {"limit_burst_s": 350, "limit_requests_per_s": 50}

    async with (
        guarded(serving, file, port=port, **settings) as client,
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}") as http,
    ):
        calls = [await code_of(client, "ModelInfer", noisy) for _ in range(3)]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.infer(typed(), metadata=tuple(bearer(noisy).items()))
        neighbour = [await code_of(client, "ModelInfer", calm) for _ in range(3)]
        rest = [
            (await http.post("/v1/loops/market/predict", json=sent, headers=bearer(noisy))).status_code
            for sent in ([OBSERVATION] * 2, [OBSERVATION] * 2, OBSERVATION)
        ]

    assert calls == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details_of(refused.value)["ErrorInfo"].reason == "CALLER_LIMITED"
    assert details_of(refused.value)["RetryInfo"].retry_delay.seconds > 10
    assert neighbour == ["OK"] * 3
    assert rest == [200, 200, 429]


async def test_calls_without_a_valid_token_are_limited_by_address(serving: RunningServing, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    calm = add_key(file, "calm", "predictor", limits=Limits())

    async with guarded(serving, file, limit_requests_per_s=0.01, limit_burst_s=200) as client:
        guesses = [await code_of(client, "ModelInfer", "evl_0123456789_00") for _ in range(3)]
        known = await code_of(client, "ModelInfer", calm)

    assert guesses == ["UNAUTHENTICATED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED"]
    assert known == "OK"


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:10.0.0.1:5001", "10.0.0.1"), ("ipv6:%5B2001:db8::1%5D:5001", "2001:db8::1"), ("unix:", "")],
)
def test_the_address_of_a_peer_is_read(peer: str, address: str) -> None:
    assert address_of(peer) == address


@pytest.mark.parametrize("how", ["revoked", "expires"])
async def test_a_key_that_ends_is_refused_at_the_next_request_of_connections_and_streams_that_are_open(
    serving: RunningServing, tmp_path: Path, how: str
) -> None:
    file, port = tmp_path / "keys.json", free_port()
    token = add_key(file, "mine", "predictor", now=system_clock())
    url = f"http://{HOST}:{port}"
    async with guarded(serving, file, port=port) as client, httpx.AsyncClient(base_url=url) as http:
        metadata = tuple(bearer(token).items())
        stream = reflection_pb2_grpc.ServerReflectionStub(client.channel).ServerReflectionInfo(metadata=metadata)

        async def ask() -> tuple[int, str, int]:
            answer = await http.post("/v1/loops/market/predict", json=OBSERVATION, headers=bearer(token))
            connection = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
            return answer.status_code, await code_of(client, "ServerLive", token), connection

        before = await ask()
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = await stream.read()
        end = system_clock() + (timedelta() if how == "revoked" else timedelta(milliseconds=300))
        change_key_file(file, lambda old: KeyFile(keys=(old.keys[0].model_copy(update={how: end}),)))
        deadline = time.monotonic() + 20
        while (after := await ask())[:2] != (401, "UNAUTHENTICATED"):
            assert time.monotonic() < deadline, "the key is still taken"
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()

    assert listed.list_services_response.service
    assert (before[:2], after[:2]) == ((200, "OK"), (401, "UNAUTHENTICATED"))
    assert after[2] == before[2], "it is the same connection"
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
