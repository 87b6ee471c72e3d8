"""The Open Inference Protocol by gRPC, over the memory engine and a real connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from tests.serving.grpc_calls import GrpcClient, details_of, grpc_client, raw, typed
from tests.serving.protocol import find_stale

from everloop.local.ports import HOST, free_port
from everloop_serving.adapters.artifacts import ArtifactLoader
from everloop_serving.api.open_inference_grpc import calls
from everloop_serving.api.open_inference_grpc.messages import CONTENTS, read_infer_request
from everloop_serving.api.open_inference_grpc.methods import INFERENCE
from everloop_serving.api.open_inference_grpc.protocol import open_inference_pb2 as pb
from everloop_serving.app import build as build_service
from everloop_serving.settings import ServingSettings
from everloop_shared.errors import InputRejected, Misconfigured, Unavailable
from everloop_shared.messaging.memory import MemoryEngine
from everloop_shared.messaging.routes import EncodedEvent

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@asynccontextmanager
async def started(serving: RunningServing, trained: bool = False, **settings: Any) -> AsyncIterator[GrpcClient]:
    """A client of serving with a loop, whose champion is version 0, or a trained one."""
    port = free_port()
    await serving.publish(serving.state(serving.version("logistic-0@1") if trained else None))
    await serving.start(grpc_port=port, **settings)
    if trained:
        await serving.until(lambda: serving.version_states() == [("logistic-0@1", "ready")], 40)
    async with grpc_client(port) as client:
        yield client


async def refused(answer: Any) -> grpc.aio.AioRpcError:
    """The error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answer
    return error.value


def typed_values(answer: pb.ModelInferResponse, name: str) -> list[Any]:
    """The values of an output in typed contents."""
    [output] = [o for o in answer.outputs if o.name == name]
    [(_, values)] = output.contents.ListFields()
    return [v.decode() if isinstance(v, bytes) else v for v in values]


async def test_typed_contents_are_answered_as_rest_answers_and_leave_the_same_records(serving: RunningServing) -> None:
    async with started(serving, trained=True) as client:
        rest = [(await serving.predict(price=price, entity="a")).json() for price in (0.1, 0.9)]

        answer = await client.infer(typed(id="two", parameters={"entity": "b"}))

        await serving.until(lambda: len(serving.predictions()) == len(serving.observations()) == 4)
    assert (answer.model_name, answer.model_version, answer.id) == ("market", "logistic-0@1", "two")
    assert [o.name for o in answer.outputs] == ["prediction", "probabilities", "prediction_id", "version"]
    assert typed_values(answer, "prediction") == [r["prediction"] for r in rest]
    assert typed_values(answer, "probabilities") == [
        r["probabilities"].get(c, 0.0) for r in rest for c in ("false", "true")
    ]
    assert typed_values(answer, "prediction_id") == ["two-0", "two-1"]
    assert json.loads(answer.outputs[1].parameters["classes"].string_param) == ["false", "true"]
    assert {p.subject: p.data.prediction for p in serving.predictions() if p.subject.startswith("two")} == {
        "two-0": rest[0]["prediction"],
        "two-1": rest[1]["prediction"],
    }


async def test_raw_contents_are_answered_raw(serving: RunningServing) -> None:
    async with started(serving, trained=True) as client:
        rest = [(await serving.predict(price=price)).json() for price in (0.1, 0.9)]

        answer = await client.infer(changed(set_entity, raw(id="raw")))

    prediction, probabilities, ids, _ = answer.raw_output_contents
    assert list(prediction) == [r["prediction"] for r in rest]
    assert struct.unpack("<4d", probabilities)[1::2] == tuple(r["probabilities"]["true"] for r in rest)
    assert ids == b"\x05\0\0\0raw-0\x05\0\0\0raw-1"
    assert not any(o.HasField("contents") for o in answer.outputs)


async def test_the_client_of_triton_works_as_it_is(serving: RunningServing) -> None:
    async with started(serving, trained=True) as client:
        tensors = []
        for name, values in (("price", [0.1, 0.9]), ("demand", [0.5, 0.5])):
            tensors.append(triton.InferInput(name, [2, 1], "FP32"))
            tensors[-1].set_data_from_numpy(np.array(values, dtype="float32").reshape(2, 1))
        async with triton.InferenceServerClient(f"{HOST}:{client.port}") as stock:
            ready = [await stock.is_server_live(), await stock.is_server_ready(), await stock.is_model_ready("market")]
            missing = await stock.is_model_ready("nowhere")
            explained = await stock.infer("market", tensors, parameters={"explain": True})
            metadata = await stock.get_model_metadata("market")
            answer = await stock.infer("market", tensors, outputs=[triton.InferRequestedOutput("prediction")])
            squeezed = await stock.infer("market", tensors, compression_algorithm="gzip")

    assert (ready, missing) == ([True, True, True], False)
    assert [i.name for i in metadata.inputs] == ["price", "demand"]
    assert list(metadata.versions) == ["logistic-0@1"]
    assert [o.name for o in answer.get_response().outputs] == ["prediction"]
    features = json.loads(explained.get_output("contributions").parameters["features"].string_param)
    scores = explained.as_numpy("base") + explained.as_numpy("contributions").sum(axis=1)
    assert explained.as_numpy("contributions").shape == (2, len(features))
    likely = explained.as_numpy("probabilities").max(axis=1)
    assert 1 / (1 + np.exp(-scores)) == pytest.approx(likely)
    assert answer.as_numpy("prediction").tolist() == squeezed.as_numpy("prediction").tolist() == [False, True]


async def test_entity_time_and_trace_come_from_parameters_and_metadata(serving: RunningServing) -> None:
    async with started(serving) as client:
        parameters = {"entity": "lois", "time": "2024-05-01T12:00:00Z"}
        request = typed({"price": [0.1], "demand": [0.5]}, id="one", parameters=parameters)

        await client.infer(request, metadata=(("traceparent", TRACE),))

        [made] = await serving.until(serving.predictions)
    assert (made.subject, made.data.entity, made.data.observed.year) == ("one", "lois", 2024)
    assert made.traceparent is not None
    assert made.traceparent[3:35] == TRACE[3:35]


def set_entity(request: pb.ModelInferRequest) -> None:
    """Another entity than the default one."""
    request.parameters["entity"].string_param = "b"


def changed(change: Callable[[pb.ModelInferRequest], object], request: pb.ModelInferRequest) -> pb.ModelInferRequest:
    """The request after a change."""
    change(request)
    return request


@pytest.mark.parametrize(
    ("request_", "code", "field", "words"),
    [
        (typed(model="nowhere"), "NOT_FOUND", None, "nowhere"),
        (typed(model_version="nothing.7"), "NOT_FOUND", None, "nothing.7"),
        (typed({"price": [0.1]}), "INVALID_ARGUMENT", "inputs", "demand"),
        (typed({"price": [0.1], "demand": [float("nan")]}), "INVALID_ARGUMENT", "inputs.1.data.0", "finite"),
        (typed({"price": [0.1], "demand": [0.5, 0.5]}), "INVALID_ARGUMENT", None, "1"),
        (pb.ModelInferRequest(model_name="market"), "INVALID_ARGUMENT", "inputs", ""),
        (changed(lambda r: r.outputs.add(name="zzz"), typed()), "INVALID_ARGUMENT", "outputs.0.name", "zzz"),
        (changed(lambda r: r.inputs[0].shape.append(7), typed()), "INVALID_ARGUMENT", "inputs.0.shape", "shape"),
        (changed(lambda r: setattr(r.inputs[0], "datatype", "FP99"), typed()), "INVALID_ARGUMENT", None, "FP99"),
        (changed(lambda r: setattr(r.inputs[0], "datatype", "FP16"), typed()), "INVALID_ARGUMENT", "inputs.0", "raw"),
        (
            changed(lambda r: setattr(r.inputs[0], "datatype", "INT64"), typed()),
            "INVALID_ARGUMENT",
            "inputs.0.contents.int64_contents",
            "INT64",
        ),
        (
            changed(lambda r: r.inputs[0].contents.fp64_contents.append(1.0), raw()),
            "INVALID_ARGUMENT",
            "inputs.0.contents",
            "raw_input_contents",
        ),
        (changed(lambda r: r.raw_input_contents.pop(), raw()), "INVALID_ARGUMENT", "raw_input_contents", "2 inputs"),
        (
            changed(lambda r: r.raw_input_contents.__setitem__(0, b"\0" * 15), raw()),
            "INVALID_ARGUMENT",
            "inputs.0",
            "16 bytes",
        ),
        (
            changed(lambda r: r.parameters["time"].__setattr__("string_param", "yesterday"), typed()),
            "INVALID_ARGUMENT",
            None,
            "time",
        ),
    ],
)
async def test_what_does_not_fit_has_a_standard_code_and_names_the_field(
    serving: RunningServing, request_: pb.ModelInferRequest, code: str, field: str | None, words: str
) -> None:
    async with started(serving) as client:
        error = await refused(client.infer(request_))

    assert (error.code().name, words in (error.details() or "")) == (code, True), error.details()
    found = details_of(error)
    assert found["ErrorInfo"].domain == "everloop"
    if field:
        assert field in [violation.field for violation in found["BadRequest"].field_violations]
    assert serving.predictions() == []


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x05abc", b"\x0a\x02\xff\xfe"])
async def test_bytes_that_are_no_message_are_invalid(serving: RunningServing, message: bytes) -> None:
    async with started(serving) as client:
        error = await refused(client.send(message))

    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the message is no inference.ModelInferRequest",
    )


async def test_a_message_over_the_limit_and_an_unknown_method_are_refused(serving: RunningServing) -> None:
    async with started(serving, max_body_bytes=1_000) as client:
        large = await refused(client.send(bytes(1_001)))
        method = await refused(client.send(b"", method="Guess"))

    assert large.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert method.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_compressed_message_counts_with_its_size_after_decompression(serving: RunningServing) -> None:
    async with started(serving, max_body_bytes=10_000) as client:
        error = await refused(client.send(bytes(1_000_000), compression=grpc.Compression.Gzip))

    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_id_taken_by_other_data_is_a_conflict(serving: RunningServing) -> None:
    async with started(serving) as client:
        first = await client.infer(typed(id="same"))
        again = await client.infer(typed(id="same"))
        error = await refused(client.infer(typed({"price": [0.2, 0.9], "demand": [0.5, 0.5]}, id="same")))

    assert first == again
    assert (error.code(), "same-0" in (error.details() or "")) == (grpc.StatusCode.ALREADY_EXISTS, True)


async def test_a_full_spool_says_when_to_try_again(serving: RunningServing) -> None:
    limits: dict[str, Any] = {"spool_bytes": 100_000, "spool_segment_bytes": 10_000}
    async with started(serving, connect=lambda service: AwayEngine(serving.broker, service), **limits) as client:
        error = None
        while error is None:
            with contextlib.suppress(asyncio.CancelledError):
                try:
                    await client.infer(typed({"price": [0.5] * 50, "demand": [0.5] * 50}))
                except grpc.aio.AioRpcError as e:
                    error = e

    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details_of(error)["RetryInfo"].retry_delay.seconds == 5
    assert ("grpc-retry-pushback-ms", "5000") in list(error.trailing_metadata() or ())


class AwayEngine(MemoryEngine):
    """Its broker takes nothing."""

    async def publish_encoded(self, events: Sequence[EncodedEvent]) -> None:
        """Fail."""
        raise Unavailable("the broker is away")


class StartingEngine(MemoryEngine):
    """It still reads what was published before the start."""

    def ready(self) -> str | None:
        """The reason."""
        return "reading"


async def test_while_serving_starts_a_loop_is_unavailable_and_health_says_so(serving: RunningServing) -> None:
    port = free_port()
    await serving.start(lambda service: StartingEngine(serving.broker, service), ready=False, grpc_port=port)
    async with grpc_client(port) as client:
        error = await refused(client.infer(typed(), wait_for_ready=True))
        live = await client("ServerLive", pb.ServerLiveRequest())
        model = await client("ModelReady", pb.ModelReadyRequest(name="market"))

    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert details_of(error)["RetryInfo"].retry_delay.seconds == 1
    assert (live.live, model.ready) == (True, False)


async def test_nothing_is_predicted_after_the_deadline_of_a_call(
    serving: RunningServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    await serving.publish(serving.state(serving.version("logistic-0@1")))
    port = free_port()
    monkeypatch.setattr(ArtifactLoader, "load", lambda *args: asyncio.Event().wait())
    await serving.start(grpc_port=port, load_wait_s=20)
    async with grpc_client(port) as client:
        error = await refused(client.infer(typed(), timeout=0.3))

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert serving.predictions() == []


async def test_a_message_that_does_not_arrive_is_not_waited_for(serving: RunningServing) -> None:
    async with started(serving, body_timeout_s=0.2) as client:
        late = await refused(client.begin())
        ended = client.begin()
        await ended.done_writing()
        empty = await refused(ended)

    assert (late.code(), late.details()) == (grpc.StatusCode.DEADLINE_EXCEEDED, "no message arrived within 0.2 s")
    assert (empty.code(), empty.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "the call has no message; send one")


async def test_calls_without_their_message_keep_no_complete_one_out(
    serving: RunningServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MAX_CALLS_WITHOUT_MESSAGE", 2)
    async with started(serving) as client:
        silent = []
        for _ in range(3):
            silent.append(client.begin())
            await silent[-1].wait_for_connection()
        errors = [await refused(call) for call in silent[:1]]

        answer = await client.infer()
        for call in silent[1:]:
            call.cancel()

    assert [e.code() for e in errors] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert answer.model_name == "market"


async def test_calls_and_bytes_in_progress_are_limited(
    serving: RunningServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(serving, max_bytes_in_flight=1_000) as client:
        bytes_ = await refused(client.send(bytes(1_001)))
        monkeypatch.setattr(calls, "MAX_CALLS_IN_PROGRESS", 0)
        number = await refused(client.infer())

    assert [e.code() for e in (bytes_, number)] == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2
    assert details_of(number)["RetryInfo"].retry_delay.seconds == 1


async def test_health_follows_readiness_and_a_watch_ends_when_the_service_stops(serving: RunningServing) -> None:
    port = free_port()
    service = await serving.start(grpc_port=port)
    async with grpc_client(port) as client:
        health = health_pb2_grpc.HealthStub(client.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=INFERENCE))
        seen = [(await watch.read()).status]
        checked = [(await health.Check(health_pb2.HealthCheckRequest(service=name))).status for name in ("", INFERENCE)]
        unknown = await refused(health.Check(health_pb2.HealthCheckRequest(service="nothing")))

        service._state = "broken"  # noqa: SLF001
        seen.append((await watch.read()).status)
        service._state = None  # noqa: SLF001
        seen.append((await watch.read()).status)
        stopping = asyncio.create_task(serving.stop())
        ended = await refused(last_of(watch))
        await asyncio.wait_for(stopping, 2)

    serves, does_not = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert seen == [serves, does_not, serves]
    assert checked == [serves, serves]
    assert unknown.code() == grpc.StatusCode.NOT_FOUND
    assert (ended.code(), ended.details()) == (grpc.StatusCode.UNAVAILABLE, "the service is stopping; ask again")


async def last_of(watch: Any) -> None:
    """Read a watch until it ends."""
    while await watch.read() is not grpc.aio.EOF:
        pass


async def test_reflection_tells_the_services_and_their_messages(serving: RunningServing) -> None:
    async with started(serving) as client:
        stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
        ask = reflection_pb2.ServerReflectionRequest
        requests = [ask(list_services=""), ask(file_containing_symbol=INFERENCE), ask(file_by_filename="nothing")]
        answers = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]

    names = [service.name for service in answers[0].list_services_response.service]
    assert names == ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", INFERENCE]
    assert b"ModelInferRequest" in answers[1].file_descriptor_response.file_descriptor_proto[0]
    assert answers[2].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize(
    ("method", "lasting"),
    [
        ("/grpc.health.v1.Health/Check", False),
        ("/grpc.health.v1.Health/Watch", True),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True),
    ],
)
async def test_bytes_that_are_no_message_of_health_or_reflection_are_the_client_s_fault(
    serving: RunningServing, method: str, lasting: bool
) -> None:
    async with started(serving) as client:
        channel: Any = client.channel
        if lasting:
            error = await refused(last_of(channel.stream_stream(method)(iter([b"\xff"]))))
        else:
            error = await refused(channel.unary_unary(method)(b"\xff"))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "the message is no grpc." in (error.details() or "")


async def test_a_port_that_is_taken_is_a_misconfiguration(serving: RunningServing) -> None:
    with socket.create_server((HOST, 0)) as taken:
        settings = ServingSettings(data=serving.folder, grpc_port=taken.getsockname()[1])
        service = build_service(settings, serving.broker.engine)
        with pytest.raises(Misconfigured, match="EVERLOOP_SERVING_GRPC_PORT"):
            await service.run(asyncio.Event())


async def test_calls_are_counted_by_method_and_code(serving: RunningServing) -> None:
    def count(code: str) -> float:
        labels = {"method": "ModelInfer", "code": code}
        return REGISTRY.get_sample_value("everloop_serving_grpc_calls_total", labels) or 0.0

    before = count("OK"), count("NOT_FOUND")
    async with started(serving) as client:
        await client.infer()
        await refused(client.infer(typed(model="nowhere")))

    assert (count("OK"), count("NOT_FOUND")) == (before[0] + 1, before[1] + 1)


@given(st.binary(max_size=200), st.integers(0, 120))
def test_whatever_the_bytes_are_a_request_is_read_or_refused(noise: bytes, at: int) -> None:
    whole = raw(model_version="v").SerializeToString()
    for message in (noise, whole[:at], whole[:at] + noise + whole[at:], whole[:at] + noise):
        with contextlib.suppress(InputRejected):
            read_infer_request(message)


@given(
    st.sampled_from([*CONTENTS, "FP16", "BF16", "FP99", ""]),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    st.binary(max_size=40),
)
def test_raw_contents_that_lie_about_their_size_are_refused(datatype: str, shape: list[int], content: bytes) -> None:
    request = pb.ModelInferRequest(model_name="market", raw_input_contents=[content])
    request.inputs.add(name="price", datatype=datatype, shape=shape)
    try:
        read, _ = read_infer_request(request.SerializeToString())
    except InputRejected:
        return
    assert len(read.inputs[0].values) == shape[0]


def test_without_a_port_the_library_of_grpc_is_not_loaded() -> None:
    program = (
        "import sys; from everloop_serving.app import build; from everloop_serving.settings import ServingSettings;"
        "from everloop_shared.messaging.memory import MemoryBroker;"
        "build(ServingSettings(data=sys.argv[1]), MemoryBroker().engine);"
        "sys.exit('grpc' in sys.modules)"
    )
    with tempfile.TemporaryDirectory() as folder:
        assert subprocess.run([sys.executable, "-c", program, folder], check=False).returncode == 0


def test_the_generated_code_is_that_of_its_proto_files() -> None:
    assert find_stale() == []
