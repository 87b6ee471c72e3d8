"""One id is one observation: other data under it is rejected, and a rejected request leaves nothing behind."""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

from everloop_features.fingerprint import fingerprint
from everloop_schemas.dead_letter import DEAD_LETTERS

pytestmark = pytest.mark.app
JSON = {"content-type": "application/json"}
URL = "/v1/loops/market/predict"
INFER = "/v2/models/market/infer"
TIME = "2024-05-01T12:00:00Z"


def tensor(name: str, *data: Any, **more: Any) -> dict[str, Any]:
    """A tensor of an inference request."""
    return {"name": name, "shape": [len(data)], "datatype": "FP64", "data": list(data)} | more


@pytest.mark.parametrize(
    ("again", "status"),
    [
        ({}, 200),
        ({"data": {"demand": 0.5, "price": 1.0}}, 200),
        ({"data": {"price": 222, "demand": 0.5}}, 409),
        ({"entity": "other"}, 409),
        ({"time": TIME}, 409),
    ],
)
@pytest.mark.parametrize("restarted", [False, True])
async def test_the_same_id_gets_the_same_answer_and_with_other_data_it_is_rejected(
    serving: RunningServing, again: dict[str, Any], status: int, restarted: bool
) -> None:
    await serving.publish(serving.state())
    await serving.start()
    body = {"id": "same", "data": {"price": 1, "demand": 0.5}}
    first = await serving.client.post(URL, json=body)
    await serving.until(lambda: serving.predictions() and serving.observations())
    if restarted:
        await serving.stop()
        await serving.start()

    second = await serving.client.post(URL, json=body | again)

    assert (first.status_code, second.status_code) == (200, status)
    assert (
        "'same' was predicted before from other data" in second.text if status == 409 else second.json() == first.json()
    )
    assert len(serving.predictions()) == len(serving.observations()) == 1


async def test_of_two_requests_at_once_under_one_id_with_other_data_one_is_rejected(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start(spool_fsync="always")

    answers = await asyncio.gather(*(serving.predict("at-once", price=float(p % 2)) for p in range(6)))

    codes = sorted(a.status_code for a in answers)
    assert codes == [200, 200, 200, 409, 409, 409]
    assert len({a.text for a in answers if a.status_code == 200}) == 1


async def test_other_data_from_the_stream_under_an_id_of_a_request_is_a_dead_letter(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start()
    await serving.predict("requested", price=0.8)
    same = fingerprint("default", {"price": 0.8, "demand": 0.5}, None)

    await serving.publish(serving.features("requested", price=0.8, fingerprint=same))
    await serving.publish(serving.features("requested", price=0.2, fingerprint="0" * 16), serving.features("last"))

    await serving.until(lambda: any(p.subject == "last" for p in serving.predictions()))
    [dead_letter] = await serving.until(lambda: serving.broker.events(DEAD_LETTERS["serving"].topic))
    assert dead_letter.data.error == "IdTaken"
    assert sorted(p.subject for p in serving.predictions()) == ["last", "requested"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b'{"id":"d","data":{"price":1,"price":2,"demand":1}}', 400, "'price' is there twice"),
        (b'{"id":"d","id":"e","data":{"price":1,"demand":1}}', 400, "'id' is there twice"),
        (b'{"id":"","data":{"price":1,"demand":1}}', 422, "id"),
        (b'{"id":"a\\u0007","data":{"price":1,"demand":1}}', 422, "control characters"),
        (b'{"data":{"price":1e999,"demand":1}}', 422, "finite"),
        (b'\xef\xbb\xbf{"data":{"price":1,"demand":1}}', 200, "prediction"),
    ],
)
async def test_a_request_is_read_strictly(serving: RunningServing, body: bytes, status: int, text: str) -> None:
    await serving.publish(serving.state())
    await serving.start()

    answer = await serving.client.post(URL, content=body, headers=JSON)

    assert answer.status_code == status
    assert text in answer.text


@pytest.mark.parametrize("name", ["a/b", "a?b#c", "100%", "%2F", "..", "../x", "ü😀", "@a", "[1]", "a b", "x/", ":"])
async def test_any_id_is_read_back_by_its_address(serving: RunningServing, name: str) -> None:
    await serving.publish(serving.state())
    await serving.start()
    answer = (await serving.predict(name)).json()
    encoded = "".join(f"%{b:02X}" for b in name.encode())

    found = await serving.client.get(f"/v1/loops/market/predictions/{encoded}")

    assert (found.status_code, found.json()) == (200, answer)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (
            {"inputs": [tensor("price", 1.0, 2.0, "oops", 4.0), tensor("demand", 1, 1, 1, None)]},
            {"inputs.0.data.2", "inputs.1.data.3"},
        ),
        ({"inputs": [tensor("price", 1.0, 2.0)]}, {"inputs"}),
        ({"inputs": [tensor("price", 1.0), tensor("demand", 1), tensor("zz", 1)]}, {"inputs.2"}),
        ({"inputs": [tensor("price", 1.0), tensor("price", 2.0)]}, {"inputs.1.name"}),
        ({"inputs": [tensor("price", 1.0, shape=[2])]}, {"inputs.0.shape"}),
        ({"inputs": [tensor("price", 1.0, shape="1")]}, {"inputs.0.shape"}),
        ({"inputs": [tensor("price", 1.0, datatype="FP65")]}, {"inputs.0.datatype"}),
        ({"inputs": [tensor("price", 1.0), tensor("demand", 1, 2)]}, {"inputs"}),
        ({"id": 7, "inputs": [tensor("price", 1.0), tensor("demand", 1)]}, {"id"}),
        ({"id": "x" * 256, "inputs": [tensor("price", 1, 2), tensor("demand", 1, 2)]}, {"id"}),
        ({"inputs": {}}, {"inputs"}),
        ([], {"inputs"}),
    ],
)
async def test_an_inference_request_is_answered_whole_or_not_at_all(
    serving: RunningServing, body: Any, fields: set[str]
) -> None:
    await serving.publish(serving.state(), serving.entity_state("default", 2, [1.0, 3.0]))
    await serving.start()

    refused = await serving.client.post(INFER, json=body)
    after = await serving.predict("after", price=5.0)

    assert refused.status_code == 422
    assert {e["field"] for e in refused.json()["errors"]} == fields
    await serving.until(serving.predictions)
    assert [p.subject for p in serving.predictions()] == ["after"]
    assert after.json()["features"]["price_mean"] == 3.0


async def test_rows_that_find_no_room_or_a_taken_id_leave_nothing_behind(serving: RunningServing) -> None:
    await serving.publish(serving.state(), serving.entity_state("default", 2, [1.0, 3.0]))
    await serving.start()
    inputs = [tensor("price", 500.0, 600.0), tensor("demand", 1.0, 1.0)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        full = await serving.client.post(INFER, json={"id": "r", "inputs": inputs})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await serving.predict("t-1", price=5.0, entity="else")
    taken = await serving.client.post(INFER, json={"id": "t", "inputs": inputs})
    missing = [await serving.client.get(f"/v1/loops/market/predictions/{i}") for i in ("r-0", "r-1", "t-0")]
    answer = await serving.predict("after", price=5.0)

    assert (full.status_code, taken.status_code) == (503, 409)
    assert [p.status_code for p in missing] == [404] * 3
    assert answer.json()["features"]["price_mean"] == 3.0


async def test_rows_of_one_request_follow_each_other_in_their_entitys_windows(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start()
    inputs = [tensor("price", 1.0, 3.0, 5.0, shape=[3, 1]), tensor("demand", 1, 1, 1)]

    first = await serving.client.post(INFER, json={"id": "w", "inputs": inputs})
    again = await serving.client.post(INFER, json={"id": "w", "inputs": inputs})
    after = await serving.predict("after", price=7.0)

    await serving.until(lambda: len(serving.observations()) == 4)
    means = {p.subject: p.data.features["price_mean"] for p in serving.predictions()}
    assert first.status_code == 200
    assert first.json() == again.json()
    assert means == {"w-0": 1.0, "w-1": 2.0, "w-2": 3.0, "after": 5.0}
    assert after.status_code == 200


@pytest.mark.parametrize(
    ("spec", "datatype"),
    [
        ({"task": "multiclass", "label": {"classes": [0, 1, 2]}}, "INT64"),
        ({"task": "multiclass", "label": {"classes": [True, False]}}, "BOOL"),
        ({"task": "multiclass", "label": {"classes": ["a", "b"]}}, "BYTES"),
        ({"task": "regression", "label": {"type": "integer"}}, "FP64"),
        ({"task": "binary"}, "BOOL"),
    ],
)
async def test_the_datatype_of_predictions_is_that_of_the_classes(
    serving: RunningServing, spec: dict[str, Any], datatype: str
) -> None:
    await serving.publish(serving.state(spec=spec))
    await serving.start()

    model = await serving.client.get("/v2/models/market")
    answer = await serving.client.post(INFER, json={"inputs": [tensor("price", 1.0), tensor("demand", 1.0)]})

    assert [o["datatype"] for o in model.json()["outputs"] if o["name"] == "prediction"] == [datatype]
    assert [o["datatype"] for o in answer.json()["outputs"] if o["name"] == "prediction"] == [datatype]


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ({"price": "high"}, "features.price: must be a number"),
        ({"zz": 1.0}, "features.zz: is not among the loop's features"),
    ],
)
async def test_a_vector_that_feature_would_not_write_is_a_dead_letter_and_takes_no_version_down(
    serving: RunningServing, features: dict[str, Any], reason: str
) -> None:
    await serving.publish(serving.state(serving.version("logistic-0@1")))
    await serving.start()
    await serving.until(lambda: ("logistic-0@1", "ready") in serving.version_states())
    good = serving.features("forged")
    forged = good.copy_with(data=replace(good.data, features=features))

    await serving.publish(forged, serving.features("after"))

    await serving.until(serving.predictions)
    [dead_letter] = await serving.until(lambda: serving.broker.events(DEAD_LETTERS["serving"].topic))
    assert dead_letter.data.reason == reason
    assert [p.subject for p in serving.predictions()] == ["after"]
    assert ("logistic-0@1", "fell_back") not in serving.version_states()
