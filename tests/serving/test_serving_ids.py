"""One id is one observation: other data under it is told, and a refused request leaves nothing behind."""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.serving.conftest import World

from everloop_features.observation import fingerprint
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
async def test_the_same_id_is_the_same_answer_and_with_other_data_it_is_refused(
    world: World, again: dict[str, Any], status: int, restarted: bool
) -> None:
    await world.put(world.state())
    await world.start()
    body = {"id": "same", "data": {"price": 1, "demand": 0.5}}
    first = await world.client.post(URL, json=body)
    await world.until(lambda: world.made() and world.brought())
    if restarted:
        await world.stop()
        await world.start()

    second = await world.client.post(URL, json=body | again)

    assert (first.status_code, second.status_code) == (200, status)
    assert "'same' was asked before with other data" in second.text if status == 409 else second.json() == first.json()
    assert len(world.made()) == len(world.brought()) == 1


async def test_of_two_at_once_under_one_id_with_other_data_one_is_refused(world: World) -> None:
    await world.put(world.state())
    await world.start(spool_fsync="always")

    answers = await asyncio.gather(*(world.ask("at-once", price=float(p % 2)) for p in range(6)))

    codes = sorted(a.status_code for a in answers)
    assert codes == [200, 200, 200, 409, 409, 409]
    assert len({a.text for a in answers if a.status_code == 200}) == 1


async def test_other_data_from_the_stream_under_an_id_asked_by_rest_is_a_dead_letter(world: World) -> None:
    await world.put(world.state())
    await world.start()
    await world.ask("asked", price=0.8)
    same = fingerprint("default", {"price": 0.8, "demand": 0.5}, None)

    await world.put(world.features("asked", price=0.8, fingerprint=same))
    await world.put(world.features("asked", price=0.2, fingerprint="0" * 16), world.features("last"))

    await world.until(lambda: any(m.subject == "last" for m in world.made()))
    [letter] = await world.until(lambda: world.broker.events(DEAD_LETTERS["serving"].topic))
    assert letter.data.error == "IdTaken"
    assert sorted(m.subject for m in world.made()) == ["asked", "last"]


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b'{"id":"d","data":{"price":1,"price":2,"demand":1}}', 400, "'price' is there twice"),
        (b'{"id":"d","id":"e","data":{"price":1,"demand":1}}', 400, "'id' is there twice"),
        (b'{"id":"","data":{"price":1,"demand":1}}', 422, "id"),
        (b'{"id":"a\\u0007","data":{"price":1,"demand":1}}', 422, "control characters"),
        (b'{"data":{"price":1e999,"demand":1}}', 422, "finite"),
        (b'\xef\xbb\xbf{"data":{"price":1,"demand":1}}', 200, "prediction"),
    ],
)
async def test_a_request_is_read_strictly(world: World, body: bytes, status: int, word: str) -> None:
    await world.put(world.state())
    await world.start()

    answer = await world.client.post(URL, content=body, headers=JSON)

    assert answer.status_code == status
    assert word in answer.text


@pytest.mark.parametrize("name", ["a/b", "a?b#c", "100%", "%2F", "..", "../x", "ü😀", "@a", "[1]", "a b", "x/", ":"])
async def test_any_id_is_read_back_by_its_address(world: World, name: str) -> None:
    await world.put(world.state())
    await world.start()
    made = (await world.ask(name)).json()
    encoded = "".join(f"%{b:02X}" for b in name.encode())

    found = await world.client.get(f"/v1/loops/market/predictions/{encoded}")

    assert (found.status_code, found.json()) == (200, made)


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
async def test_an_inference_request_is_answered_whole_or_not_at_all(world: World, body: Any, fields: set[str]) -> None:
    await world.put(world.state(), world.entity_state("default", 2, [1.0, 3.0]))
    await world.start()

    refused = await world.client.post(INFER, json=body)
    after = await world.ask("after", price=5.0)

    assert refused.status_code == 422
    assert {e["field"] for e in refused.json()["errors"]} == fields
    await world.until(world.made)
    assert [m.subject for m in world.made()] == ["after"]
    assert after.json()["features"]["price_mean"] == 3.0


async def test_rows_that_find_no_room_or_a_taken_id_leave_nothing_behind(world: World) -> None:
    await world.put(world.state(), world.entity_state("default", 2, [1.0, 3.0]))
    await world.start()
    inputs = [tensor("price", 500.0, 600.0), tensor("demand", 1.0, 1.0)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        full = await world.client.post(INFER, json={"id": "r", "inputs": inputs})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await world.ask("t-1", price=5.0, entity="else")
    taken = await world.client.post(INFER, json={"id": "t", "inputs": inputs})
    missing = [await world.client.get(f"/v1/loops/market/predictions/{i}") for i in ("r-0", "r-1", "t-0")]
    answer = await world.ask("after", price=5.0)

    assert (full.status_code, taken.status_code) == (503, 409)
    assert [m.status_code for m in missing] == [404] * 3
    assert answer.json()["features"]["price_mean"] == 3.0


async def test_rows_of_one_request_follow_each_other_in_their_entitys_windows(world: World) -> None:
    await world.put(world.state())
    await world.start()
    inputs = [tensor("price", 1.0, 3.0, 5.0, shape=[3, 1]), tensor("demand", 1, 1, 1)]

    first = await world.client.post(INFER, json={"id": "w", "inputs": inputs})
    again = await world.client.post(INFER, json={"id": "w", "inputs": inputs})
    after = await world.ask("after", price=7.0)

    await world.until(lambda: len(world.brought()) == 4)
    means = {m.subject: m.data.features["price_mean"] for m in world.made()}
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
    world: World, spec: dict[str, Any], datatype: str
) -> None:
    await world.put(world.state(spec=spec))
    await world.start()

    model = await world.client.get("/v2/models/market")
    answer = await world.client.post(INFER, json={"inputs": [tensor("price", 1.0), tensor("demand", 1.0)]})

    assert [o["datatype"] for o in model.json()["outputs"]] == [datatype]
    assert [o["datatype"] for o in answer.json()["outputs"] if o["name"] == "prediction"] == [datatype]


@pytest.mark.parametrize(
    ("features", "word"),
    [
        ({"price": "high"}, "features.price: must be a number"),
        ({"zz": 1.0}, "features.zz: is not among the loop's features"),
    ],
)
async def test_a_vector_that_feature_would_not_write_is_a_dead_letter_and_takes_no_version_down(
    world: World, features: dict[str, Any], word: str
) -> None:
    await world.put(world.state(world.version("logistic-0@1")))
    await world.start()
    await world.until(lambda: ("logistic-0@1", "ready") in world.reports())
    good = world.features("forged")
    forged = good.model_copy(update={"data": good.data.model_copy(update={"features": features})})

    await world.put(forged, world.features("after"))

    await world.until(world.made)
    [letter] = await world.until(lambda: world.broker.events(DEAD_LETTERS["serving"].topic))
    assert letter.data.reason == word
    assert [m.subject for m in world.made()] == ["after"]
    assert ("logistic-0@1", "fell_back") not in world.reports()
