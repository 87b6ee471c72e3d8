"""Serving as a whole, over the memory engine: events and requests in, predictions out."""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from everloop_schemas.envelope import Topic
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.memory import MemoryConsumer, MemoryEngine
from everloop_shared.messaging.routes import Routes, StartAt, UnitOfWork

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app


@pytest.mark.promise(7)
async def test_a_loop_answers_from_its_first_event(serving: RunningServing) -> None:
    await serving.publish(serving.state(), serving.features("a"))

    await serving.start()
    answer = await serving.predict("b")

    predictions = await serving.until(
        lambda: len(serving.predictions()) == 2 and {p.subject: p for p in serving.predictions()}
    )
    streamed = predictions["a"].data
    assert (streamed.prediction, streamed.version, streamed.role) == (False, "0", "baseline")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "b",
        "prediction": False,
        "version": "0",
        "role": "baseline",
        "features": {"price": 0.5, "demand": 0.5, "price_mean": 0.5},
    }


@pytest.mark.promise(3)
async def test_a_request_becomes_one_prediction_and_one_observation_on_the_bus(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start()

    answers = [(await serving.predict("b", price=p)).json() for p in (0.1, 0.1)]

    await serving.until(lambda: serving.predictions() and serving.observations())
    [prediction], [observation] = serving.predictions(), serving.observations()
    assert answers[0] == answers[1]
    assert (prediction.subject, prediction.data.door, prediction.causationid) == ("b", "rest", observation.id)
    assert (observation.id, observation.data.fields) == ("b", {"price": 0.1, "demand": 0.5})


async def test_version_zero_follows_the_labels_and_counts_a_corrected_one_once(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start()

    await serving.publish(
        serving.outcome("a", True), serving.outcome("b", False), serving.outcome("b", True, correction=1)
    )

    saved = serving.folder / "serving" / "labels.json"
    await serving.until(lambda: saved.exists() and '"count": 2' in saved.read_text())
    answer = (await serving.predict()).json()
    assert (answer["prediction"], answer["probabilities"]) == (True, {"true": 1.0})


async def test_label_statistics_are_not_counted_again_after_a_restart(serving: RunningServing) -> None:
    await serving.publish(serving.state(), serving.outcome("a", True), serving.outcome("b", False))
    await serving.start()
    await serving.stop()

    await serving.publish(serving.outcome("c", True))
    await serving.start()

    answer = (await serving.predict()).json()
    assert answer["probabilities"] == pytest.approx({"true": 2 / 3, "false": 1 / 3})


async def test_a_restart_gives_replayed_records_the_same_predictions(serving: RunningServing) -> None:
    await serving.publish(
        serving.state(serving.version("logistic-0@1")), *(serving.features(f"p{i}") for i in range(20))
    )
    await serving.start()
    before = await serving.until(
        lambda: len(serving.predictions()) == 20 and {p.subject: p for p in serving.predictions()}
    )
    await serving.stop()

    serving.broker.committed.clear()  # as if it had died before the commit
    await serving.publish(serving.state(serving.version("logistic-0@2")), serving.features("new"))
    await serving.start()

    await serving.until(lambda: any(p.subject == "new" for p in serving.predictions()))
    after = {p.subject: p for p in serving.predictions()}
    assert len(serving.predictions()) == 21
    assert {k: after[k] for k in before} == before
    assert after["new"].data.version == "logistic-0@2"


async def test_an_id_from_a_request_and_from_the_stream_is_one_prediction_whichever_came_first(
    serving: RunningServing,
) -> None:
    await serving.publish(serving.state(), serving.features("streamed", price=0.2))
    await serving.start()
    await serving.until(serving.predictions)

    streamed = (await serving.predict("streamed", price=0.8)).json()
    requested = (await serving.predict("requested", price=0.8)).json()
    await serving.publish(serving.features("requested", price=0.2), serving.features("last"))

    await serving.until(lambda: any(p.subject == "last" for p in serving.predictions()))
    predictions = {p.subject: p for p in serving.predictions()}
    assert len(serving.predictions()) == 3
    assert streamed["features"]["price"] == predictions["streamed"].data.features["price"] == 0.2
    assert requested["features"]["price"] == predictions["requested"].data.features["price"] == 0.8
    assert (await serving.client.get("/v1/loops/market/predictions/requested")).json() == requested


class Silent(MemoryEngine):
    """An engine whose broker does not answer any more."""

    def ready(self) -> str | None:
        """Why not."""
        return "Kafka has not answered"


async def test_a_load_balancer_keeps_it_while_the_broker_is_silent(serving: RunningServing) -> None:
    await serving.publish(serving.state(serving.version("logistic-0@1")))
    await serving.start(lambda service: Silent(serving.broker, service))
    await serving.until(lambda: ("logistic-0@1", "ready") in serving.version_states())

    answers = [await serving.client.get(path) for path in ("/readyz", "/v2/health/ready")]

    assert [a.status_code for a in answers] == [200, 200]
    assert (await serving.predict("requested", price=0.9)).status_code == 200


class NeverStarted(MemoryConsumer):
    """A consumer whose broker is away."""

    async def start(self) -> None:
        """Never."""
        await asyncio.Event().wait()


class Away(MemoryEngine):
    """An engine whose broker is away: its consumer does not start, and it neither publishes nor reads."""

    def consumer(
        self, routes: Routes, *, unit_of_work: UnitOfWork | None = None, start_at: StartAt | None = None
    ) -> MemoryConsumer:
        """One that waits for the broker."""
        return NeverStarted(self, routes)

    async def publish_encoded(self, events: Any) -> None:
        """Fail; so does `publish`, which encodes and calls this."""
        raise Unavailable("the broker is away")

    async def end_offset(self, topic: Topic, partition: int) -> int:
        """Fail: nothing is read back."""
        raise Unavailable("the broker is away")


@pytest.mark.promise(10)
async def test_it_answers_after_a_restart_with_everything_else_down_and_delivers_afterwards(
    serving: RunningServing,
) -> None:
    await serving.publish(serving.state(serving.version("logistic-0@1")))
    await serving.start()
    await serving.until(lambda: ("logistic-0@1", "ready") in serving.version_states())
    await serving.stop()

    await serving.start(lambda service: Away(serving.broker, service), ready=False)
    await asyncio.wait_for(_at_revision(serving, 1), 10)
    answers = [await serving.predict(f"alone-{i}", price=0.9) for i in range(3)]
    await serving.stop()
    assert serving.predictions() == []
    await serving.start()

    await serving.until(lambda: len(serving.predictions()) == len(serving.observations()) == 3)
    assert [(a.status_code, a.json()["version"]) for a in answers] == [(200, "logistic-0@1")] * 3
    again = await serving.predict("alone-1", price=0.9)
    assert again.json() == answers[1].json()
    assert len(serving.predictions()) == 3


async def test_a_repeated_id_gets_the_same_prediction_after_a_restart_before_the_topic_can_be_read(
    serving: RunningServing,
) -> None:
    spec = {"features": [{"name": "n", "count": "price", "over": "1h"}]}
    await serving.publish(serving.state(spec=spec))
    await serving.start()
    await serving.predict("p1", price=0.9)
    first = await serving.predict("p2", price=0.9)
    await serving.until(lambda: len(serving.predictions()) == 2)
    await serving.stop()

    await serving.start(lambda service: Away(serving.broker, service), ready=False)
    await asyncio.wait_for(_at_revision(serving, 1), 10)
    again = await serving.predict("p2", price=0.9)

    assert (again.status_code, again.json()) == (200, first.json())
    assert first.json()["features"]["n"] == 2


@pytest.mark.parametrize("time", ["2099-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+05:00"])
async def test_a_time_that_cannot_be_is_refused_and_moves_no_window(serving: RunningServing, time: str) -> None:
    await serving.publish(serving.state(spec={"features": [{"name": "n", "count": "price", "over": "1h"}]}))
    await serving.start()
    body, url = {"entity": "e", "data": {"price": 1, "demand": 1}}, "/v1/loops/market/predict"

    answers = [await serving.client.post(url, json=body | t) for t in ({}, {"time": time}, {}, {})]

    assert [a.status_code for a in answers] == [200, 422, 200, 200]
    assert answers[1].json()["errors"][0]["field"] == "time"
    assert [a.json()["features"]["n"] for a in answers if a.status_code == 200] == [1, 2, 3]


async def test_a_full_spool_and_what_does_not_fit_are_refused_with_a_reason(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start(max_event_bytes=2_000)
    post = serving.client.post
    url = "/v1/loops/market/predict"

    unknown = await post("/v1/loops/nowhere/predict", json={"data": {}})
    wrong = await post(url, json={"data": {"price": "high"}})
    text = await post(url, content=b"a=b", headers={"content-type": "application/x-www-form-urlencoded"})
    nan = await post(
        url, content=b'{"data": {"price": NaN, "demand": 1}}', headers={"content-type": "application/json"}
    )
    large = await post(url, json={"data": {"price": 1, "demand": 1, "x": "y" * 3000}})
    missing = await serving.client.get("/v1/loops/market/predictions/nobody")

    assert [r.status_code for r in (unknown, wrong, text, nan, large, missing)] == [404, 422, 415, 400, 413, 404]
    assert [e["field"] for e in wrong.json()["errors"]] == ["data.price", "data.demand"]
    assert "nowhere" in unknown.json()["detail"]
    assert (await serving.predict()).status_code == 200


async def test_rest_features_follow_the_entitys_windows_and_its_own_requests(serving: RunningServing) -> None:
    await serving.publish(serving.state(), serving.entity_state("shop", 2, [1.0, 3.0]))
    await serving.start()

    first = (await serving.predict(price=5.0, entity="shop")).json()
    second = (await serving.predict(price=10.0, entity="shop")).json()
    await serving.publish(serving.entity_state("shop", 9, [100.0, 100.0]))
    await serving.publish(serving.state(revision=2))
    await serving.until(lambda: serving.predictions())
    await asyncio.wait_for(_at_revision(serving, 2), 10)
    third = (await serving.predict(price=100.0, entity="shop")).json()

    means = [a["features"]["price_mean"] for a in (first, second, third)]
    assert means == [3.0, 6.0, 100.0]


async def test_a_request_whose_record_finds_no_room_moves_no_window(serving: RunningServing) -> None:
    await serving.publish(serving.state(), serving.entity_state("shop", 2, [1.0, 3.0]))
    await serving.start()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        refused = await serving.predict(price=500.0, entity="shop")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    answer = (await serving.predict(price=5.0, entity="shop")).json()

    assert refused.status_code == 503
    assert answer["features"]["price_mean"] == 3.0


async def _at_revision(serving: RunningServing, revision: int) -> None:
    while (await serving.client.get("/v1/loops/market")).json() != {"loop": "market", "revision": revision}:
        await asyncio.sleep(0.005)


async def test_events_of_a_loop_nobody_knows_yet_wait_for_it(serving: RunningServing) -> None:
    await serving.publish(serving.features("early"))
    await serving.start()

    await serving.publish(serving.state())

    [prediction] = await serving.until(serving.predictions)
    assert prediction.subject == "early"


async def test_the_open_inference_protocol_predicts_row_by_row(serving: RunningServing) -> None:
    await serving.publish(serving.state(serving.version("logistic-0@1")))
    await serving.start()
    await serving.until(lambda: ("logistic-0@1", "ready") in serving.version_states())
    inputs = [
        {"name": "price", "shape": [2], "datatype": "FP64", "data": [0.1, 0.9]},
        {"name": "demand", "shape": [2], "datatype": "FP64", "data": [0.5, 0.5]},
    ]

    model = await serving.client.get("/v2/models/market")
    answer = await serving.client.post("/v2/models/market/infer", json={"id": "r", "inputs": inputs})

    assert [i["name"] for i in model.json()["inputs"]] == ["price", "demand"]
    outputs = {o["name"]: o["data"] for o in answer.json()["outputs"]}
    assert outputs["prediction_id"] == ["r-0", "r-1"]
    assert outputs["prediction"] == [False, True]


@pytest.mark.parametrize(
    "state", [{"ring": {"price": 7}}, {"ring": "text"}, {"span": {"price": [[1, 2], [3]]}}, {"ring": {"price": [{}]}}]
)
async def test_windows_of_another_shape_do_not_cost_their_entity_its_answers(
    serving: RunningServing, state: dict[str, Any]
) -> None:
    poison = serving.entity_state("shop", 2, [1.0])
    poison = poison.copy_with(data=replace(poison.data, state=state))
    await serving.publish(serving.state(), poison)
    await serving.start()

    answered = await serving.predict("a", entity="shop")

    assert answered.status_code == 200
