"""Predictions for CloudEvents, which are read as ingest reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app
URL = "/v1/loops/market/predict"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DATA = {"price": 2.0, "demand": 1.0}
EVENT = {"specversion": "1.0", "id": "e1", "source": "/shop", "type": "order", "subject": "s1", "data": DATA}
BINARY = {f"ce-{name}": value for name, value in EVENT.items() if isinstance(value, str)}
BATCH = "application/cloudevents-batch+json"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (BINARY | {"ce-traceparent": TRACE}, DATA),
        ({"content-type": "application/cloudevents+json"}, EVENT | {"traceparent": TRACE}),
        ({"content-type": "application/json"}, EVENT | {"traceparent": TRACE, "time": None}),
    ],
)
async def test_a_cloudevent_is_predicted_under_its_id_and_the_entity_is_its_subject(
    serving: RunningServing, headers: dict[str, str], body: dict[str, Any]
) -> None:
    await serving.publish(serving.state())
    await serving.start()

    answer = await serving.client.post(URL, content=json.dumps(body).encode(), headers=headers)

    assert (answer.status_code, answer.json()["id"]) == (200, "e1"), answer.text
    [prediction] = await serving.until(serving.predictions)
    assert (prediction.subject, prediction.data.entity, prediction.traceparent) == ("e1", "s1", TRACE)


@pytest.mark.parametrize("kind", [BATCH, "application/json", "application/x-ndjson"])
async def test_a_batch_is_predicted_in_its_order_beside_plain_observations(serving: RunningServing, kind: str) -> None:
    await serving.publish(serving.state())
    await serving.start()
    rows: list[Any] = [EVENT, {"id": "plain", "data": DATA}, EVENT | {"id": "e2", "subject": None}]
    content = "\n".join(map(json.dumps, rows)) if "nd" in kind else json.dumps(rows)

    answer = await serving.client.post(URL, content=content.encode(), headers={"content-type": kind})

    found = [json.loads(line) for line in answer.content.splitlines()] if "nd" in kind else answer.json()
    assert (answer.status_code, [p["id"] for p in found]) == (200, ["e1", "plain", "e2"])


@pytest.mark.parametrize(
    ("headers", "body", "status", "expected"),
    [
        (BINARY | {"ce-specversion": "0.3"}, DATA, 422, "ce-specversion"),
        (BINARY | {"ce-subject": "%20"}, DATA, 422, "ce-subject"),
        (BINARY | {"ce-subject": "%ff"}, DATA, 400, "ce-subject"),
        (BINARY | {"content-type": "application/xml"}, DATA, 415, "application/xml"),
        (BINARY, {"data": DATA}, 422, "data.data"),
        ({"content-type": "application/json"}, EVENT | {"specversion": "2.0"}, 422, "specversion"),
        ({"content-type": BATCH}, [EVENT, EVENT | {"id": ""}, EVENT | {"subject": "\n"}], 422, "[2].subject"),
    ],
)
async def test_what_is_wrong_with_a_cloudevent_is_named_and_nothing_is_predicted(
    serving: RunningServing, headers: dict[str, str], body: Any, status: int, expected: str
) -> None:
    await serving.publish(serving.state())
    await serving.start()

    refused = await serving.client.post(URL, content=json.dumps(body).encode(), headers=headers)
    after = await serving.predict("after", price=5.0)

    assert (refused.status_code, after.status_code) == (status, 200)
    assert expected in [e["field"] for e in refused.json()["errors"]] if status == 422 else expected in refused.text
