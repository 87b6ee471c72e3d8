"""The Open Inference Protocol by REST: binary tensors, versions, outputs, whose observation a row is, and refusals."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from tritonclient.http import (  # type: ignore[import-untyped]
    InferenceServerClient,
    InferInput,
    InferResult,
)

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app
MODEL = "/v2/models/market"
INFER = f"{MODEL}/infer"
OCTETS = "application/octet-stream"
LENGTH = "inference-header-content-length"
CLASSES = {"task": "multiclass", "label": {"classes": ["low", "high", "none"]}}


def tensor(name: str, *data: Any, **more: Any) -> dict[str, Any]:
    """A tensor of a request."""
    return {"name": name, "shape": [len(data)], "datatype": "FP64", "data": list(data)} | more


def text(name: str, *data: str) -> dict[str, Any]:
    """A tensor of texts."""
    return tensor(name, *data, datatype="BYTES")


def rows(*prices: float) -> list[dict[str, Any]]:
    """Tensors for a row with each price."""
    return [tensor("price", *prices), tensor("demand", *[0.5] * len(prices))]


def packed(name: str, raw: bytes, datatype: str, shape: list[int], size: Any = None) -> tuple[dict[str, Any], bytes]:
    """A tensor in binary, and its bytes."""
    parameters = {"binary_data_size": len(raw) if size is None else size}
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": parameters}, raw


def doubles(name: str, *values: float) -> tuple[dict[str, Any], bytes]:
    """A tensor of doubles in binary."""
    return packed(name, struct.pack(f"<{len(values)}d", *values), "FP64", [len(values)])


async def post_binary(
    serving: RunningServing, *tensors: tuple[dict[str, Any], bytes], length: Any = None, extra: bytes = b"", **body: Any
) -> httpx.Response:
    """The answer to a request with tensors in binary."""
    header = json.dumps({"inputs": [described for described, _ in tensors]} | body).encode()
    content = header + b"".join(raw for _, raw in tensors) + extra
    headers = {"content-type": OCTETS, LENGTH: str(len(header)) if length is None else length}
    return await serving.client.post(INFER, content=content, headers=headers)


def outputs(answer: httpx.Response) -> dict[str, Any]:
    """The values of each output of an answer in JSON."""
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


async def started(serving: RunningServing, champion: str | None = "logistic-0@1", **state: Any) -> None:
    """Start serving with a champion that has learned from prices, or with version 0."""
    await serving.publish(serving.state(serving.version(champion) if champion else None, **state))
    await serving.start()
    if champion:
        await serving.until(lambda: (champion, "ready") in serving.version_states())


async def test_what_the_stock_client_sends_and_reads_by_default_is_binary(serving: RunningServing) -> None:
    await started(serving)
    inputs = [InferInput("price", [2, 1], "FP32"), InferInput("demand", [2], "FP64")]
    inputs[0].set_data_from_numpy(np.array([[0.1], [0.9]], dtype=np.float32))
    inputs[1].set_data_from_numpy(np.array([0.5, 0.5]))
    body, length = InferenceServerClient.generate_request_body(inputs, request_id="r")

    answer = await serving.client.post(INFER, content=body, headers={LENGTH: str(length)})

    assert (answer.status_code, answer.headers["content-type"]) == (200, OCTETS)
    result = InferResult.from_response_body(answer.content, header_length=int(answer.headers[LENGTH]))
    assert result.as_numpy("prediction").tolist() == [False, True]
    assert result.as_numpy("prediction_id").tolist() == [b"r-0", b"r-1"]
    assert result.as_numpy("version").tolist() == [b"logistic-0@1"] * 2
    probabilities = result.as_numpy("probabilities")
    await serving.until(lambda: len(serving.predictions()) == 2)
    assert [p.data.probabilities for p in serving.predictions()] == [
        {"false": false, "true": true} for false, true in probabilities.tolist()
    ]


async def test_each_output_is_written_as_it_was_asked_for(serving: RunningServing) -> None:
    await started(serving)
    asked = [{"name": "version"}, {"name": "prediction", "parameters": {"binary_data": True}}]

    answer = await serving.client.post(INFER, json={"inputs": rows(0.9), "outputs": asked})

    length = int(answer.headers[LENGTH])
    written = json.loads(answer.content[:length])["outputs"]
    assert [output["name"] for output in written] == ["version", "prediction"]
    assert written[0]["data"] == ["logistic-0@1"]
    assert written[1]["parameters"] == {"binary_data_size": 1}
    assert "data" not in written[1]
    assert answer.content[length:] == b"\x01"


@pytest.mark.parametrize("kind", [None, "", OCTETS, "application/json", "application/json; charset=utf-8"])
async def test_json_is_read_whatever_the_stock_client_calls_it(serving: RunningServing, kind: str | None) -> None:
    await started(serving, None)
    headers = {} if kind is None else {"content-type": kind}

    answer = await serving.client.post(INFER, content=json.dumps({"inputs": rows(0.1)}), headers=headers)

    assert answer.status_code == (200 if kind != "" else 415)
    assert answer.headers["content-type"] == "application/json"


async def test_texts_truths_and_integers_travel_in_binary_as_in_json(serving: RunningServing) -> None:
    fields: dict[str, Any] = {
        "count": {"type": "integer"},
        "name": {"type": "string"},
        "vip": {"type": "boolean"},
        "rest": {"type": "number", "missing": "null"},
    }
    await started(serving, None, spec={"schema": fields, "features": [{"fields": "all"}]})
    in_json = [
        tensor("count", 3, 4, datatype="INT16"),
        text("name", "ü", ""),
        tensor("vip", True, False, datatype="BOOL"),
        tensor("rest", None, 1.5),
    ]
    in_binary = [
        packed("count", struct.pack("<2h", 3, 4), "INT16", [2]),
        packed("name", b"\x02\x00\x00\x00\xc3\xbc\x00\x00\x00\x00", "BYTES", [2, 1]),
        packed("vip", b"\x01\x00", "BOOL", [2]),
        packed("rest", struct.pack("<2d", float("nan"), 1.5), "FP64", [2]),
    ]

    first = await serving.client.post(INFER, json={"id": "j", "inputs": in_json})
    second = await post_binary(serving, *in_binary, id="b")

    assert (first.status_code, second.status_code) == (200, 200)
    await serving.until(lambda: len(serving.predictions()) == 4)
    features = {p.subject: p.data.features for p in serving.predictions()}
    assert features["j-0"] == features["b-0"] == {"count": 3, "name": "ü", "vip": True, "rest": None}
    assert features["j-1"] == features["b-1"] == {"count": 4, "name": "", "vip": False, "rest": 1.5}


async def test_whole_numbers_of_a_float_tensor_are_integers_where_the_schema_wants_them(
    serving: RunningServing,
) -> None:
    await started(serving, None, spec={"schema": {"count": {"type": "integer"}}, "features": [{"fields": "all"}]})

    whole = await serving.client.post(INFER, json={"id": "w", "inputs": [tensor("count", 3.0)]})
    broken = await serving.client.post(INFER, json={"inputs": [tensor("count", 3.5)]})

    assert (whole.status_code, broken.status_code) == (200, 422)
    await serving.until(serving.predictions)
    assert serving.predictions()[0].data.features == {"count": 3}


@pytest.mark.parametrize(
    ("tensors", "more", "words"),
    [
        ([doubles("price", 1.0), packed("demand", b"\x00" * 4, "FP64", [1])], {}, ["demand", "8 bytes", "4"]),
        ([doubles("price", 1.0), packed("demand", b"\x00" * 8, "FP64", [1], 9)], {}, ["demand", "binary_data_size"]),
        ([doubles("price", 1.0), packed("demand", b"\x00" * 8, "FP64", [1], -1)], {}, ["demand", "binary_data_size"]),
        ([doubles("price", 1.0), packed("demand", b"\x00" * 8, "FP64", [1], 2**63)], {}, ["demand"]),
        ([doubles("price", 1.0), packed("demand", b"\x00" * 8, "FP64", [1], "8")], {}, ["demand"]),
        ([doubles("price", 1.0), packed("demand", b"\x00" * 8, "FP64", [1], 8.0)], {}, ["demand"]),
        ([doubles("price", 1.0), packed("demand", b"\x00" * 8, "FP64", [1], True)], {}, ["demand"]),
        ([doubles("price", 1.0), doubles("demand", float("nan"))], {}, ["demand", "not finite"]),
        ([doubles("price", 1.0), doubles("demand", 1.0)], {"extra": b"x"}, ["16", "17"]),
        ([doubles("price", 1.0), doubles("demand", 1.0)], {"length": "999999"}, ["Inference-Header-Content-Length"]),
        ([doubles("price", 1.0), doubles("demand", 1.0)], {"length": "-1"}, ["Inference-Header-Content-Length"]),
        ([doubles("price", 1.0), doubles("demand", 1.0)], {"length": "1" * 30}, ["Inference-Header-Content-Length"]),
        ([doubles("price", 1.0), doubles("demand", 1.0)], {"length": "ten"}, ["Inference-Header-Content-Length"]),
        ([doubles("price", 1.0), doubles("demand", 1.0)], {"length": "0"}, ["JSON"]),
        ([doubles("price", 1.0), packed("name", b"\xff\xff\xff\x7f", "BYTES", [1])], {}, ["name", "2147483647"]),
        ([doubles("price", 1.0), packed("name", b"\x01\x00\x00\x00\xff", "BYTES", [1])], {}, ["name", "UTF-8"]),
    ],
)
async def test_binary_data_that_lies_is_refused_with_the_tensor_named(
    serving: RunningServing, tensors: list[tuple[dict[str, Any], bytes]], more: dict[str, Any], words: list[str]
) -> None:
    await started(serving, None)

    refused = await post_binary(serving, *tensors, **more)
    both = await post_binary(serving, (tensor("price", 1.0, parameters={"binary_data_size": 8}), b"\x00" * 8))

    assert refused.status_code in (400, 422), refused.text
    assert all(word in refused.json()["error"] for word in words), refused.text
    assert (both.status_code, "keep one" in both.json()["error"]) == (422, True)
    assert not serving.predictions()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"inputs": [{k: v for k, v in tensor("price", 1.0).items() if k != "shape"}]}, ["price", "shape"]),
        ({"inputs": [{k: v for k, v in tensor("price", 1.0).items() if k != "datatype"}]}, ["price", "datatype"]),
        ({"inputs": [{k: v for k, v in tensor("price", 1.0).items() if k != "name"}]}, ["inputs.0.name"]),
        ({"inputs": [{k: v for k, v in tensor("price", 1.0).items() if k != "data"}]}, ["price", "data"]),
        ({"inputs": [tensor("price", 1.0, datatype="FP99")]}, ["price", "FP99"]),
        ({"inputs": [tensor("price", 0.5, datatype="BOOL"), tensor("demand", 1)]}, ["price", "BOOL"]),
        ({"inputs": [tensor("price", 1.0), tensor("demand", 1, parameters=[])]}, ["inputs.1.parameters"]),
        ({"inputs": rows(1.0), "parameters": 7}, ["parameters"]),
        ({"inputs": rows(1.0), "parameters": {"binary_data_output": "yes"}}, ["binary_data_output"]),
        ({"inputs": rows(1.0), "outputs": ["prediction"]}, ["outputs"]),
        ({"inputs": rows(1.0), "outputs": [{"name": "zzz"}]}, ["zzz", "prediction_id"]),
        ({"inputs": rows(1.0), "outputs": [{"name": "version"}, {"name": "version"}]}, ["version", "twice"]),
        ({"inputs": rows(1.0), "outputs": [{"name": "version", "parameters": {"binary_data": 1}}]}, ["binary_data"]),
        ({"inputs": rows(1.0, 2.0), "parameters": {"entity": ["a"]}}, ["parameters.entity", "2"]),
        ({"inputs": rows(1.0, 2.0), "parameters": {"entity": ["a", 7]}}, ["parameters.entity.1"]),
        ({"inputs": rows(1.0), "parameters": {"entity": 7}}, ["parameters.entity"]),
        ({"inputs": rows(1.0), "parameters": {"time": "yesterday"}}, ["parameters.time", "RFC 3339"]),
        ({"inputs": rows(1.0), "parameters": {"time": "2099-01-01T00:00:00Z"}}, ["parameters.time", "future"]),
        ({"inputs": [*rows(1.0, 2.0), text("id", "a", "b c ")]}, ["inputs.2.data.1"]),
        ({"inputs": [*rows(1.0, 2.0), tensor("entity", 1, 2)]}, ["inputs.2.data.0"]),
        (b'{"inputs": [], "inputs": []}', ["inputs", "twice"]),
        (b'{"inputs": ', ["JSON"]),
        (b'{"inputs": [{"name": "price", "shape": [1], "datatype": "FP64", "data": [NaN]}]}', ["JSON"]),
        (b"[" * 1000, ["JSON"]),
    ],
)
async def test_a_request_that_is_wrong_is_refused_in_words_and_leaves_nothing(
    serving: RunningServing, body: Any, words: list[str]
) -> None:
    await started(serving, None)

    content = body if isinstance(body, bytes) else json.dumps(body)
    refused = await serving.client.post(INFER, content=content, headers={"content-type": "application/json"})
    after = await serving.predict("after")

    assert refused.status_code in (400, 422), refused.text
    assert all(word in refused.json()["error"] for word in words), refused.text
    assert after.status_code == 200
    await serving.until(serving.predictions)
    assert [p.subject for p in serving.predictions()] == ["after"]


@pytest.mark.parametrize("placed", ["parameters", "lists", "tensors"])
async def test_entity_time_and_id_are_those_that_the_request_names(serving: RunningServing, placed: str) -> None:
    await started(serving, None)
    own = {"entity": ["kent", "lois"], "time": ["2024-05-01T12:00:00Z", "2024-05-01T13:00:00+01:00"], "id": ["a", "b"]}
    bodies: dict[str, list[dict[str, Any]]] = {
        "parameters": [
            {"inputs": rows(n + 1.0), "parameters": {name: values[n] for name, values in own.items()}} for n in (0, 1)
        ],
        "lists": [{"inputs": rows(1.0, 2.0), "parameters": own}],
        "tensors": [{"inputs": [*rows(1.0, 2.0), *(text(name, *values) for name, values in own.items())]}],
    }

    for body in bodies[placed]:
        answer = await serving.client.post(INFER, json={"id": "request", **body})

        assert (answer.status_code, answer.json()["id"]) == (200, "request")
    await serving.until(lambda: len(serving.predictions()) == 2)
    made = {p.subject: p.data for p in serving.predictions()}
    assert {name: data.entity for name, data in made.items()} == {"a": "kent", "b": "lois"}
    assert {data.observed.isoformat() for data in made.values()} == {"2024-05-01T12:00:00+00:00"}
    assert {name: data.features["price_mean"] for name, data in made.items()} == {"a": 1.0, "b": 2.0}


async def test_a_field_called_as_entity_or_id_is_a_field(serving: RunningServing) -> None:
    fields = {"entity": {"type": "string"}, "id": {"type": "integer"}}
    await started(serving, None, spec={"schema": fields, "features": [{"fields": "all"}]})
    inputs = [text("entity", "x"), tensor("id", 5, datatype="INT64")]

    answer = await serving.client.post(INFER, json={"inputs": inputs, "parameters": {"entity": "kent", "id": "i"}})

    assert outputs(answer)["prediction_id"] == ["i"]
    [prediction] = await serving.until(serving.predictions)
    assert (prediction.data.entity, prediction.data.features) == ("kent", {"entity": "x", "id": 5})


@pytest.mark.parametrize("parameters", ["7", "0.5", "true", '"x"', "[1]", '[{"binary_data": true}]'])
async def test_parameters_of_an_output_that_are_no_object_are_refused_with_the_output_named(
    serving: RunningServing, parameters: str
) -> None:
    await serving.publish(serving.state())
    await serving.start()
    tensors = [{"name": name, "shape": [1], "datatype": "FP64", "data": [0.5]} for name in ("price", "demand")]
    body = json.dumps({"inputs": tensors, "outputs": [{"name": "prediction", "parameters": None}]})

    answer = await serving.client.post(
        "/v2/models/market/infer",
        content=body.replace("null", parameters),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 422
    assert "outputs.0.parameters" in answer.json()["error"]


async def test_members_that_are_null_are_absent(serving: RunningServing) -> None:
    await started(serving, None)
    inputs = [{**one, "parameters": None} for one in rows(1.0)]

    answer = await serving.client.post(
        INFER, json={"id": None, "parameters": None, "outputs": None, "inputs": inputs, "unknown": {"x": None}}
    )

    assert set(outputs(answer)) == {"prediction", "prediction_id", "version"}
    assert "id" not in answer.json()


async def test_a_version_that_the_metadata_lists_answers_by_its_name(serving: RunningServing) -> None:
    await started(serving)
    await serving.publish(
        serving.state(serving.version("logistic-0@1"), candidate=serving.version("logistic-1@2"), share=0.5)
    )
    await serving.until(lambda: ("logistic-1@2", "ready") in serving.version_states())
    metadata = (await serving.client.get(MODEL)).json()

    for version in metadata["versions"]:
        ready = await serving.client.get(f"{MODEL}/versions/{version}/ready")
        described = await serving.client.get(f"{MODEL}/versions/{version.replace('@', '%40')}")
        answer = await serving.client.post(
            f"{MODEL}/versions/{version}/infer", json={"id": f"by-{version}", "inputs": rows(*[0.9] * 20)}
        )

        assert (ready.status_code, described.json()) == (200, metadata)
        assert answer.json()["model_version"] == version
        assert set(outputs(answer)["version"]) == {version}
    assert metadata["versions"] == ["logistic-0@1", "logistic-1@2"]
    await serving.until(lambda: len(serving.predictions()) == 40)
    roles = {(p.data.version, p.data.role, p.data.propensity) for p in serving.predictions()}
    assert roles == {("logistic-0@1", "champion", 1.0), ("logistic-1@2", "canary", 1.0)}
    assert all(len(p.data.shadows) == 1 for p in serving.predictions())


async def test_a_version_that_does_not_serve_is_refused_by_name(serving: RunningServing) -> None:
    await started(serving)
    path = f"{MODEL}/versions/nothing.7"

    refused = [await serving.client.get(path), await serving.client.get(f"{path}/ready")]
    refused.append(await serving.client.post(f"{path}/infer", json={"inputs": rows(1.0)}))
    first = await serving.client.post(INFER, json={"id": "a", "inputs": rows(1.0)})
    await serving.publish(serving.state(serving.version("logistic-0@2")))
    await serving.until(lambda: ("logistic-0@2", "ready") in serving.version_states())
    by_another = await serving.client.post(
        f"{MODEL}/versions/logistic-0@2/infer", json={"id": "a", "inputs": rows(1.0)}
    )

    assert [answer.status_code for answer in refused] == [404] * 3
    assert all("nothing.7" in answer.json()["error"] for answer in refused)
    assert all("logistic-0@1" in answer.json()["error"] for answer in refused)
    assert first.json()["model_version"] == "logistic-0@1"
    assert (by_another.status_code, "logistic-0@1" in by_another.json()["error"]) == (409, True)


async def test_rows_of_several_versions_have_their_versions_in_an_output(serving: RunningServing) -> None:
    await started(serving)
    await serving.publish(
        serving.state(serving.version("logistic-0@1"), candidate=serving.version("logistic-1@2"), share=0.5)
    )
    await serving.until(lambda: ("logistic-1@2", "ready") in serving.version_states())

    answer = await serving.client.post(INFER, json={"id": "m", "inputs": rows(*[0.9] * 50)})

    assert set(outputs(answer)["version"]) == {"logistic-0@1", "logistic-1@2"}
    assert "model_version" not in answer.json()


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({"task": "binary"}, ["false", "true"]),
        (CLASSES, ["low", "high", "none"]),
        ({"task": "multiclass", "label": {"classes": [2, 0, 1]}}, ["2", "0", "1"]),
        ({"task": "multiclass"}, None),
        ({"task": "regression"}, []),
    ],
)
async def test_probabilities_are_an_output_with_the_names_of_the_classes(
    serving: RunningServing, spec: dict[str, Any], names: list[str] | None
) -> None:
    await started(serving, None, spec=spec)

    metadata = (await serving.client.get(MODEL)).json()
    asked = [{"name": output["name"]} for output in metadata["outputs"]]
    answer = await serving.client.post(INFER, json={"inputs": rows(1.0, 2.0), "outputs": asked})
    unasked = await serving.client.post(INFER, json={"inputs": rows(1.0, 2.0)})

    described = {output["name"]: output for output in metadata["outputs"]}
    answered = {output["name"]: output for output in answer.json()["outputs"]}
    assert list(described) == list(answered)
    assert ("probabilities" in described) == (names != [])
    if names:
        assert described["probabilities"]["shape"] == [-1, len(names)]
        assert described["probabilities"]["parameters"] == {"classes": names}
        assert answered["probabilities"]["shape"] == [2, len(names)]
        assert answered["probabilities"]["parameters"] == {"classes": names}
        assert answered["probabilities"]["data"] == [None] * 2 * len(names)
    assert list(outputs(unasked)) == ["prediction", "prediction_id", "version"]


async def test_every_error_has_its_text_where_the_clients_read_it(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start(max_body_bytes=10_000)
    wrong_type = {"content-type": "text/plain"}

    answers = {
        404: await serving.client.get("/v2/models/nowhere"),
        405: await serving.client.put(INFER, json={}),
        413: await serving.client.post(INFER, content=b"x" * 20_000),
        415: await serving.client.post(INFER, content=b"{}", headers=wrong_type),
        422: await serving.client.post(INFER, json={"inputs": []}),
        403: await serving.client.get("/v2", headers={"host": "foreign.example"}),
    }
    unknown = await serving.client.get("/v2/nothing")
    elsewhere = await serving.client.get("/v20")

    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    for answer in (*answers.values(), unknown):
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["error"] == answer.json()["detail"]
        assert answer.json()["code"]
    assert elsewhere.headers["content-type"] == "application/problem+json"
    assert "error" not in elsewhere.json()


async def test_the_server_names_its_extensions(serving: RunningServing) -> None:
    await started(serving, None)

    metadata = (await serving.client.get("/v2")).json()

    assert (metadata["name"], metadata["version"]) == ("everloop", "2")
    assert "binary_tensor_data" in metadata["extensions"]


@pytest.mark.parametrize("binary", [False, True])
async def test_a_request_with_the_parameter_explain_gets_what_features_contributed(
    serving: RunningServing, binary: bool
) -> None:
    await started(serving)
    one = (await serving.predict("one", 0.9, explain=True)).json()["explanation"]
    body = {"id": "r", "inputs": rows(0.9, 0.1), "parameters": {"explain": True, "binary_data_output": binary}}

    plain = await serving.client.post(INFER, json={"inputs": rows(0.9)})
    asked = await serving.client.post(INFER, json=body)
    some = await serving.client.post(INFER, json={**body, "outputs": [{"name": "base"}]})

    await serving.until(lambda: len(serving.predictions()) == 4)
    result = InferResult.from_response_body(asked.content, header_length=int(asked.headers.get(LENGTH, 0)) or None)
    contributions, base = result.as_numpy("contributions"), result.as_numpy("base")
    features = result.get_output("contributions")["parameters"]["features"]
    assert dict(zip(features, contributions[0].tolist(), strict=True)) == one["contributions"]
    assert base[0] == one["base"]
    assert (contributions.shape, base.shape) == ((2, len(features)), (2,))
    said = (result.as_numpy("scale").tolist(), result.as_numpy("method").tolist())
    texts = (["log_odds"] * 2, ["linear"] * 2)
    assert said == (tuple([t.encode() for t in each] for each in texts) if binary else texts)
    likely = 1 / (1 + np.exp(-(base + contributions.sum(axis=1))))
    assert likely == pytest.approx(result.as_numpy("probabilities").max(axis=1))
    assert set(outputs(plain)) == {"prediction", "probabilities", "prediction_id", "version"}
    told = json.loads(some.content[: int(some.headers.get(LENGTH, len(some.content)))])["outputs"]
    assert [output["name"] for output in told] == ["base"]
    recorded = {p.subject: p.data.explanation is not None for p in serving.predictions()}
    assert (recorded["r-0"], recorded["r-1"], sum(recorded.values())) == (True, True, 3)


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"parameters": {"explain": "yes"}}, "parameters.explain", "true or false"),
        ({"outputs": [{"name": "contributions"}]}, "outputs.0.name", "set the parameter explain"),
        ({"parameters": {"explain": True}, "inputs": rows(*[0.5] * 101)}, "parameters.explain", "only 100 rows"),
    ],
)
async def test_a_request_that_asks_wrongly_for_explanations_is_refused(
    serving: RunningServing, change: dict[str, Any], field: str, says: str
) -> None:
    await started(serving, None)

    answer = await serving.client.post(INFER, json={"inputs": rows(0.5), **change})

    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert says in error["error"]
    assert not serving.predictions()
