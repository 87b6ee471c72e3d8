"""Several observations in one request, and requests that give a time for their answer."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app
URL = "/v1/loops/market/predict"
INFER = "/v2/models/market/infer"
LINES = {"content-type": "application/x-ndjson"}


def row(price: Any, **more: Any) -> dict[str, Any]:
    """An observation."""
    return {"data": {"price": price, "demand": 1.0}, **more}


def lines(rows: list[dict[str, Any]]) -> bytes:
    """JSON lines."""
    return "\n".join(map(json.dumps, rows)).encode()


@pytest.mark.parametrize("note", [{}, {"time": "2024-05-01T12:00:00Z"}, {"entity": 'a":b'}])
@pytest.mark.parametrize("as_lines", [False, True])
async def test_observations_of_one_request_are_predicted_in_their_order(
    serving: RunningServing, as_lines: bool, note: dict[str, Any]
) -> None:
    await serving.publish(serving.state())
    await serving.start()
    rows = [row(float(n), id=f"r{n}", **note) for n in range(1, 6)]

    if as_lines:
        answer = await serving.client.post(URL, content=lines(rows), headers=LINES)
        predicted = [json.loads(line) for line in answer.content.splitlines()]
    else:
        answer = await serving.client.post(URL, json=rows)
        predicted = answer.json()

    await serving.until(lambda: len(serving.observations()) == 5)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == (LINES["content-type"] if as_lines else "application/json")
    assert [p["id"] for p in predicted] == ["r1", "r2", "r3", "r4", "r5"]
    assert [p["features"]["price_mean"] for p in predicted] == [1.0, 1.5, 2.0, 3.0, 4.0]
    assert {p.subject: p.data.features for p in serving.predictions()} == {p["id"]: p["features"] for p in predicted}


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        ([row(1.0), row("oops"), row(1.0, id=7), row(None)], 422, ["[1].data.price", "[2].id", "[3].data.price"]),
        ([row(1.0), {"data": {"price": 1.0}}], 422, ["[1].data.demand"]),
        ([row(1.0), row(1.0, time="2099-01-01T00:00:00Z")], 422, ["[1].time"]),
        ([], 422, ["body"]),
        ([row(1.0)] * 1_001, 422, ["body"]),
        ([row(1.0), row(2.0, id="taken")], 409, None),
        ([row(1.0, id="twice"), row(2.0, id="twice")], 409, None),
    ],
)
@pytest.mark.parametrize("as_lines", [False, True])
async def test_of_a_list_with_an_error_nothing_is_predicted_and_the_error_names_the_row(
    serving: RunningServing, body: list[dict[str, Any]], status: int, fields: list[str] | None, as_lines: bool
) -> None:
    await serving.publish(serving.state())
    await serving.start()
    await serving.predict("taken", price=9.0, entity="else")

    sent: dict[str, Any] = {"content": lines(body), "headers": LINES} if as_lines else {"json": body}
    refused = await serving.client.post(URL, **sent)
    after = await serving.predict("after", price=5.0)

    assert refused.status_code == status
    if fields:
        assert [e["field"] for e in refused.json()["errors"]] == fields
    await serving.until(lambda: len(serving.predictions()) == 2)
    assert {p.subject for p in serving.predictions()} == {"taken", "after"}
    assert after.json()["features"]["price_mean"] == 5.0


async def test_a_line_that_is_not_json_is_named(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start()

    answer = await serving.client.post(URL, content=lines([row(1.0)]) + b"\n{\n", headers=LINES)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "[1]"


async def test_an_observation_that_a_list_repeats_is_predicted_once(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start()

    answer = await serving.client.post(URL, json=[row(1.0, id="a"), row(3.0), row(1.0, id="a")])

    await serving.until(lambda: len(serving.observations()) == 2)
    first, between, again = answer.json()
    assert first == again
    assert between["features"]["price_mean"] == 2.0
    assert len(serving.predictions()) == 2


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "600001", "9" * 20])
async def test_a_timeout_that_is_no_number_of_milliseconds_is_refused(serving: RunningServing, value: str) -> None:
    await serving.publish(serving.state())
    await serving.start()

    answers = [
        await serving.client.post(URL, json=row(1.0), headers={"Timeout-Ms": value}),
        await serving.client.post(URL, json=row("wrong"), headers={"Timeout-Ms": value}),
    ]

    assert [a.status_code for a in answers] == [400, 400]
    assert all(a.json()["errors"][0]["field"] == "Timeout-Ms" for a in answers)
    assert "from 1 to 600,000" in answers[0].text


async def test_a_request_with_enough_time_is_answered(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start(spool_fsync="always")

    answer = await serving.client.post(URL, json=row(1.0), headers={"Timeout-Ms": "60000"})

    assert answer.status_code == 200


@pytest.mark.parametrize("url", [URL, INFER])
async def test_a_request_that_would_wait_too_long_for_its_model_is_504_and_leaves_nothing(
    serving: RunningServing, url: str
) -> None:
    champion = serving.version("logistic-0@1")
    for artifact in (serving.folder / "artifacts").rglob("*.*"):
        artifact.unlink()  # it is tried again after a minute
    await serving.publish(serving.state(champion))
    await serving.start(load_wait_s=60.0, load_retry_s=60.0)
    inputs = [{"name": n, "shape": [1], "datatype": "FP64", "data": [1.0]} for n in ("price", "demand")]
    body = row(1.0, id="late") if url == URL else {"id": "late", "inputs": inputs}

    answer = await serving.client.post(url, json=body, headers={"Timeout-Ms": "30"})
    found = await serving.client.get("/v1/loops/market/predictions/late")

    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert "nothing was predicted or stored" in answer.json()["detail"]
    assert found.status_code == 404


async def test_a_request_whose_record_is_not_synced_in_time_is_504_and_a_retry_gets_its_answer(
    serving: RunningServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = asyncio.Event()
    await serving.publish(serving.state())
    await serving.start(spool_fsync="always")

    async def to_thread(*_: Any) -> None:
        await synced.wait()

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    late = await serving.client.post(URL, json=row(1.0, id="late"), headers={"Timeout-Ms": "30"})
    synced.set()
    again = await serving.client.post(URL, json=row(1.0, id="late"))

    assert late.status_code == 504
    assert "stored, but not synced" in late.json()["detail"]
    assert "late" in late.json()["detail"]
    assert again.status_code == 200
    await serving.until(serving.predictions)
    assert len(serving.predictions()) == 1
