"""Requests of one row that are read by a plan, and their answers: as the general way reads and writes them, or not."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders.loops import loop_spec

from everloop_features import compile_features
from everloop_features.observation_decoder import compile_decoder
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import PredictionMade, PredictionMadeData
from everloop_serving.api.inference_body import (
    HEADER_LENGTH,
    AnswerForm,
    read_outputs,
    read_request,
    split_body,
    write_answer,
)
from everloop_serving.api.planned_answers import write_row
from everloop_serving.domain.inference import InferenceRequest, render_answer
from everloop_serving.domain.inference_plans import MAX_PLANS, InferencePlans, PlannedRow
from everloop_serving.domain.inference_rows import read_rows
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.domain.tensors import DATATYPES, encode_raw
from everloop_shared.errors import ServiceError
from everloop_shared.http import HttpEndpoint

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

    from everloop_serving.domain.served_loop import Predictor

TIME = datetime(2026, 1, 1, tzinfo=UTC)
FIELDS: dict[str, Any] = {
    "price": {"type": "number", "min": -5.5, "max": 100},
    "any": {"type": "number"},
    "pieces": {"type": "integer"},
    "few": {"type": "integer", "min": -2.5, "max": 7.5, "missing": None},
    "open": {"type": "boolean"},
    "country": {"type": "string", "enum": ["de", "fr"]},
    "size": {"type": "number", "enum": [1, 2.5], "missing": None},
    "note": {"type": "string", "missing": None},
}
USUAL = {"price": "FP64", "any": "FP32", "pieces": "INT64", "open": "BOOL", "country": "BYTES"}
VALUES: dict[str, Any] = {"price": 1.5, "any": 2.5, "pieces": 3, "open": True, "country": "de"}
ANY_VALUE: st.SearchStrategy[Any] = st.sampled_from(
    [0, 1, 2.5, -5.5, 7, 8, 100, 101, 300, 2**53, 2**64, 1e300, 3e39, True, False, None, "de", "it", "", 'x":', []]
) | st.floats(allow_nan=False, allow_infinity=False)
ID_VALUE = st.sampled_from(["a", "entity-7", "", "a b", "\n", 5, None, ["a"], "2026-01-01T00:00:00Z", "x" * 300])


def served(task: str = "binary", **changes: Any) -> ServedLoop:
    """A loop whose versions are of no concern here."""
    changes = {"schema": FIELDS, "features": [{"fields": ["price", "any"]}]} | changes
    spec: LoopSpec = loop_spec(task=task, **changes)
    none: Predictor = None  # type: ignore[assignment]
    return ServedLoop("market", 1, spec, compile_features(spec), none, none, decoder=compile_decoder(spec))


LOOP = served()


def learn(loop: ServedLoop, body: bytes, length: str | None) -> None:
    """Make the plan of a request that the general way reads."""
    text, binary = split_body(body, length)
    request, _ = read_request("market", None, text, binary)
    tensors = [(tensor.name, tensor.datatype) for tensor in request.inputs]
    loop.plans.learn(loop.spec, loop.decoder, tensors, len(binary) > 0)


def read_generally(loop: ServedLoop, body: bytes, length: str | None) -> Any:
    """What the general way makes of a request; the error where it refuses it."""
    try:
        request, form = read_request("market", None, *split_body(body, length))
        rows = read_rows(loop, request.inputs, request.id, request.parameters, lambda time: None)
    except ServiceError as e:
        return e
    return repr((rows, request.id, list(request.outputs), dict(form.by_name), form.others))


def shown(row: PlannedRow) -> str:
    """The same of a request that was read by a plan."""
    names, by_name = read_outputs(row.outputs)
    return repr(([row.observation], row.id, names, by_name, row.in_binary))


def tensor(name: str, datatype: str, value: Any) -> dict[str, Any]:
    """A tensor of one value in JSON."""
    return {"name": name, "shape": [1], "datatype": datatype, "data": [value]}


def packed(inputs: list[dict[str, Any]], **more: Any) -> tuple[bytes, str]:
    """A request with its tensors in binary, and the length of its JSON."""
    raw, described = [], []
    for one in inputs:
        raw.append(encode_raw(one["datatype"], one["data"]))
        rest = {name: one[name] for name in ("name", "shape", "datatype")}
        described.append(rest | {"parameters": {"binary_data_size": len(raw[-1])}})
    text = json.dumps({"inputs": described} | more).encode()
    return text + b"".join(raw), str(len(text))


@st.composite
def requests(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Tensors, most of which fit."""
    inputs = [tensor(name, datatype, VALUES[name]) for name, datatype in USUAL.items()]
    for name, datatype in {"few": "INT8", "size": "FP64", "note": "BYTES", "entity": "BYTES", "id": "BYTES"}.items():
        if draw(st.booleans()):
            inputs.append(tensor(name, datatype, {"few": 3, "size": 2.5, "note": "n"}.get(name, "e")))
    inputs = draw(st.permutations(inputs))
    if draw(st.booleans()):
        inputs[0]["datatype"] = draw(st.sampled_from(DATATYPES))
    return inputs


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_plan_reads_a_request_in_json_as_the_general_way_does_or_not_at_all(data: st.DataObject) -> None:
    loop, inputs = replace(LOOP, plans=InferencePlans()), data.draw(requests())
    try:
        learn(loop, json.dumps({"inputs": inputs}).encode(), None)
    except ServiceError:
        return
    for _ in range(data.draw(st.integers(0, 2))):
        changed = data.draw(st.sampled_from(inputs))
        member = data.draw(st.sampled_from(["data", "shape", "name", "datatype", "parameters", "other"]))
        changes: dict[str, Any] = {
            "data": st.lists(ANY_VALUE, min_size=1, max_size=1) | st.lists(ANY_VALUE, max_size=2) | ANY_VALUE,
            "shape": st.sampled_from([[1, 1], [2], [1, 1, 1], [], None, [0], [1.0], [True], 1]),
            "name": st.sampled_from(["price", "time", "nothing", 7]),
            "datatype": st.sampled_from(["FP64", "INT64", "BYTES", "FP65"]),
            "parameters": st.sampled_from([None, {}, {"a": 1}, {"binary_data_size": 8}]),
            "other": ANY_VALUE,
        }
        changed[member] = data.draw(changes[member])
    more = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "id": ID_VALUE,
                "parameters": st.none()
                | st.fixed_dictionaries(
                    {},
                    optional={
                        "id": ID_VALUE,
                        "entity": ID_VALUE,
                        "time": ID_VALUE,
                        "binary_data_output": st.sampled_from([True, False, None, 1]),
                        "priority": st.just(1),
                    },
                ),
                "outputs": st.sampled_from(
                    [None, [], [{"name": "version"}], [{"name": "version", "parameters": None}]]
                ),
                "further": st.just(1),
            },
        )
    )
    text = json.dumps({"inputs": inputs} | more).encode()
    if data.draw(st.booleans()):
        text = text.replace(b'"shape"', b'"name": "price", "shape"', 1)  # a key twice

    row = loop.plans.read(text, memoryview(b""))

    assert row is None or shown(row) == read_generally(loop, text, None)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_plan_reads_a_request_in_binary_as_the_general_way_does_or_not_at_all(data: st.DataObject) -> None:
    loop, inputs = replace(LOOP, plans=InferencePlans()), data.draw(requests())
    try:
        body, length = packed(inputs)
        learn(loop, body, length)
    except (ServiceError, struct.error, TypeError, AttributeError):
        return
    end = int(length)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(end, len(body) - 1))
        body = body[:at] + bytes([data.draw(st.integers(0, 255))]) + body[at + 1 :]
    body = data.draw(st.sampled_from([body, body, body, body + b"x", body[:-1]]))

    row = loop.plans.read(*split_body(body, length))

    assert row is None or shown(row) == read_generally(loop, body, length)


@pytest.mark.parametrize("shape", [[1], [1, 1]])
@pytest.mark.parametrize("more", [{}, {"id": "r"}, {"parameters": {"entity": "e", "time": "2026-01-01T00:00:00Z"}}])
def test_usual_requests_are_read_by_a_plan(shape: list[int], more: dict[str, Any]) -> None:
    inputs = [tensor(name, datatype, VALUES[name]) | {"shape": shape} for name, datatype in USUAL.items()]
    text, loop = json.dumps({"inputs": inputs} | more).encode(), served()
    body, length = packed(inputs, **more)
    learn(loop, text, None)
    learn(loop, body, length)

    rows = [loop.plans.read(text, memoryview(b"")), loop.plans.read(*split_body(body, length))]

    assert [row and shown(row) for row in rows] == [read_generally(loop, text, None)] * 2


def test_a_loop_has_only_so_many_plans() -> None:
    loop = served()
    for datatype in ("FP64", "FP32", "FP16", "BF16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16"):
        kinds = [(name, datatype if name == "any" else kind) for name, kind in USUAL.items()]
        for _ in range(2):
            loop.plans.learn(loop.spec, loop.decoder, kinds, False)

    inputs = [tensor(name, "UINT8" if name == "any" else kind, VALUES[name]) for name, kind in USUAL.items()]
    inputs[1]["data"] = [2]

    assert MAX_PLANS == 8
    assert loop.plans.read(json.dumps({"inputs": inputs}).encode(), memoryview(b"")) is None


@pytest.mark.parametrize("in_binary", [False, True])
@pytest.mark.parametrize("request_id", [None, 'r"%d'])
@pytest.mark.parametrize(
    ("loop", "prediction", "probabilities"),
    [
        (served(), True, {"false": 0.25, "true": 0.75}),
        (served(), False, None),
        (served("regression", label={"type": "integer"}), 5, None),
        (served("regression"), 2.5, None),
        (served("multiclass", label={"classes": ["a%d", "b\u20ac"]}), "b\u20ac", {"b\u20ac": 0.9}),
        (served("multiclass", label={"type": "integer", "classes": [1, 2]}), 2, {"1": 0.1, "2": 0.9}),
        (served("multiclass"), "new", {"new": 1.0}),
    ],
)
def test_the_answer_to_one_row_has_the_bytes_of_the_general_one(
    loop: ServedLoop, prediction: Any, probabilities: dict[str, float] | None, request_id: str | None, in_binary: bool
) -> None:
    for n in range(2):
        data = PredictionMadeData(
            entity="e",
            features={},
            prediction=prediction,
            probabilities=probabilities,
            version=f'v"%b{n}',
            role="champion",
            propensity=1.0,
            latency_ms=0.1,
            observed=TIME,
            door="rest",
        )
        made = PredictionMade(id="i", time=TIME, subject=f"\u20ac{n}" * 5, loop="market", revision=1, data=data)
        request = InferenceRequest("market", None, request_id, {}, (), ())

        written = write_row(loop, made, request_id, in_binary)

        if probabilities == {"new": 1.0}:
            assert written is None  # its classes are not known before
        else:
            assert written == write_answer(render_answer(loop, request, [made]), AnswerForm({}, in_binary))


@pytest.mark.app
@pytest.mark.parametrize("in_binary", [False, True])
async def test_what_is_answered_at_once_is_what_the_framework_answers(serving: RunningServing, in_binary: bool) -> None:
    await serving.publish(serving.state(serving.version("logistic-0@1"), spec={"features": [{"fields": "all"}]}))
    service = await serving.start()
    await serving.until(lambda: ("logistic-0@1", "ready") in serving.version_states())
    [port] = [endpoint.port for endpoint in service.endpoints if isinstance(endpoint, HttpEndpoint)]
    asked = [{"name": "version", "parameters": {"binary_data": True}}, {"name": "prediction"}]
    directly = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)
    versions, wrong = "market/versions/logistic-0@1", "market/versions/no@1"
    calls: list[tuple[str, dict[str, Any]]] = [
        ("market", {}),
        ("market", {}),
        ("market", {"parameters": {"entity": "e", "time": None, "binary_data_output": True}}),
        ("market", {"outputs": asked}),
        ("market", {"outputs": asked[1:] * 2}),
        ("market", {"outputs": [{"name": "nothing"}]}),
        ("market", {"outputs": [{}]}),
        (versions, {}),
        (wrong, {}),
        ("market", {"parameters": {"time": "1999-01-01T00:00:00Z"}}),
        ("market", {"parameters": {"time": "2999-01-01T00:00:00Z"}}),
        ("market", {"parameters": {"entity": ""}}),
    ]
    for n, (name, more) in enumerate(calls):
        inputs = [tensor("price", "FP64", 0.9), tensor("demand", "FP64", 0.5)]
        more = {"id": f"row-{n}"} | more
        body, length = packed(inputs, **more) if in_binary else (json.dumps({"inputs": inputs} | more).encode(), None)
        headers = {} if length is None else {HEADER_LENGTH: length}

        [expected, answer] = [
            await client.post(f"/v2/models/{name}/infer", content=body, headers=headers)
            for client in (serving.client, directly)
        ]

        assert answer.status_code == expected.status_code
        if answer.status_code == 200:
            assert answer.content == expected.content
        else:
            assert answer.json()["error"] == expected.json()["error"]
        assert all(answer.headers.get(key) == expected.headers.get(key) for key in (HEADER_LENGTH, "content-type"))
    await directly.aclose()
