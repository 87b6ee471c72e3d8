"""Serving as a whole, over the memory engine: events and requests in, predictions out."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import pytest

from everloop_schemas.serving import VersionState
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.memory import MemoryConsumer, MemoryEngine
from everloop_shared.messaging.routes import Route, StartAt, UnitOfWork

if TYPE_CHECKING:
    from tests.serving.conftest import World

pytestmark = pytest.mark.app


@pytest.mark.promise(7)
async def test_a_loop_answers_from_its_first_event(world: World) -> None:
    await world.put(world.state(), world.features("a"))

    await world.start()
    answer = await world.ask("b")

    made = await world.until(lambda: len(world.made()) == 2 and {m.subject: m for m in world.made()})
    assert (made["a"].data.prediction, made["a"].data.version, made["a"].data.role) == (False, "0", "baseline")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "b",
        "prediction": False,
        "version": "0",
        "role": "baseline",
        "features": {"price": 0.5, "demand": 0.5, "price_mean": 0.5},
    }


@pytest.mark.promise(3)
async def test_a_request_becomes_one_prediction_and_one_observation_on_the_bus(world: World) -> None:
    await world.put(world.state())
    await world.start()

    answers = [(await world.ask("b", price=p)).json() for p in (0.1, 0.1)]

    await world.until(lambda: world.made() and world.brought())
    [made], [brought] = world.made(), world.brought()
    assert answers[0] == answers[1]
    assert (made.subject, made.data.door, made.causationid) == ("b", "rest", brought.id)
    assert (brought.id, brought.data.fields) == ("b", {"price": 0.1, "demand": 0.5})


async def test_version_zero_follows_the_labels_and_counts_a_corrected_one_once(world: World) -> None:
    await world.put(world.state())
    await world.start()

    await world.put(world.outcome("a", True), world.outcome("b", False), world.outcome("b", True, correction=1))

    saved = world.folder / "serving" / "labels.json"
    await world.until(lambda: saved.exists() and '"count": 2' in saved.read_text())
    answer = (await world.ask()).json()
    assert (answer["prediction"], answer["probabilities"]) == (True, {"true": 1.0})


async def test_label_statistics_are_not_counted_again_after_a_restart(world: World) -> None:
    await world.put(world.state(), world.outcome("a", True), world.outcome("b", False))
    await world.start()
    await world.stop()

    await world.put(world.outcome("c", True))
    await world.start()

    answer = (await world.ask()).json()
    assert answer["probabilities"] == pytest.approx({"true": 2 / 3, "false": 1 / 3})


async def test_a_promoted_version_is_swapped_in_under_load_without_a_failed_request(world: World) -> None:
    await world.put(world.state())
    await world.start()
    answers: list[Any] = []
    done = asyncio.Event()

    async def load() -> None:
        while not done.is_set():
            answers.append(await world.ask(price=0.9))
            await asyncio.sleep(0)  # the test's own transport never yields

    answers.append(await world.ask(price=0.9))
    await world.put(world.state(world.version("logistic-0@0")))
    await world.until(lambda: ("logistic-0@0", "ready") in world.reports(), deadline_s=30)
    users = [asyncio.create_task(load()) for _ in range(4)]
    for n in range(3):
        await world.put(world.state(world.version(f"logistic-0@{n}")))
        await _until_answered_by(world, answers, f"logistic-0@{n}")
    done.set()
    await asyncio.gather(*users)

    versions = [a.json()["version"] for a in answers]
    assert {a.status_code for a in answers} == {200}
    assert sorted(set(versions)) == ["0", "logistic-0@0", "logistic-0@1", "logistic-0@2"]
    await world.until(lambda: ("logistic-0@2", "ready") in world.reports())


async def test_an_artifact_with_another_sha256_is_refused_and_the_old_version_keeps_serving(world: World) -> None:
    good = world.version("logistic-0@1")
    await world.put(world.state(good))
    await world.start()
    await world.until(lambda: ("logistic-0@1", "ready") in world.reports())
    bad = world.version("logistic-0@2").model_copy(update={"sha256": "0" * 64})

    await world.put(world.state(bad))

    await world.until(lambda: ("logistic-0@2", "failed") in world.reports())
    assert (await world.ask()).json()["version"] == "logistic-0@1"


async def test_a_champion_that_was_tampered_with_is_not_loaded_and_what_serves_is_told(
    world: World,
) -> None:
    version = world.version("logistic-0@1")
    path = Path(unquote(urlparse(version.uri or "").path))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    await world.put(world.state(version))

    await world.start()
    await world.until(lambda: ("logistic-0@1", "failed") in world.reports())

    [told] = [e.data for e in world.broker.events(VersionState.topic) if isinstance(e, VersionState)]
    assert (told.state, told.serving) == ("failed", "0")
    assert "sha256" in (told.reason or "")
    assert (await world.ask()).json()["version"] == "0"


async def test_a_uri_that_leads_elsewhere_is_not_followed(world: World) -> None:
    version = world.version("logistic-0@1").model_copy(update={"uri": "data:;base64,gAVOLg=="})
    await world.put(world.state(version))

    await world.start()

    await world.until(lambda: ("logistic-0@1", "failed") in world.reports())
    assert (await world.ask()).json()["version"] == "0"


async def test_a_store_that_is_away_for_a_moment_costs_only_time(world: World) -> None:
    version = world.version("logistic-0@1")
    path = Path(unquote(urlparse(version.uri or "").path))
    hidden = path.rename(path.with_suffix(".away"))
    await world.put(world.state(version), world.features("a", price=0.9))

    await world.start(load_attempts=1000)
    hidden.rename(path)

    [made] = await world.until(world.made)
    assert (made.data.version, made.data.role, made.data.prediction) == ("logistic-0@1", "champion", True)


async def test_a_canary_gets_its_share_and_the_other_version_speaks_in_shadow(world: World) -> None:
    champion, candidate = world.version("logistic-0@1"), world.version("logistic-9@10")
    await world.put(world.state(champion, candidate=candidate, stage="canary", share=0.25))
    await world.start()
    await world.until(lambda: len(world.reports()) == 2)

    await world.put(*(world.features(f"p{i}") for i in range(400)))

    made = await world.until(lambda: len(world.made()) == 400 and world.made())
    canary = [m for m in made if m.data.role == "canary"]
    assert 60 < len(canary) < 140
    assert {(m.data.version, m.data.propensity, m.data.shadows[0].version) for m in made} == {
        ("logistic-9@10", 0.25, "logistic-0@1"),
        ("logistic-0@1", 0.75, "logistic-9@10"),
    }


async def test_a_restart_says_of_replayed_records_what_it_said_before(world: World) -> None:
    await world.put(world.state(world.version("logistic-0@1")), *(world.features(f"p{i}") for i in range(20)))
    await world.start()
    before = await world.until(lambda: len(world.made()) == 20 and {m.subject: m for m in world.made()})
    await world.stop()

    world.broker.committed.clear()  # as if it had died before the commit
    await world.put(world.state(world.version("logistic-0@2")), world.features("new"))
    await world.start()

    await world.until(lambda: any(m.subject == "new" for m in world.made()))
    after = {m.subject: m for m in world.made()}
    assert len(world.made()) == 21
    assert {k: after[k] for k in before} == before
    assert after["new"].data.version == "logistic-0@2"


async def test_an_id_asked_by_rest_and_by_stream_is_one_prediction_whichever_came_first(world: World) -> None:
    await world.put(world.state(), world.features("streamed", price=0.2))
    await world.start()
    await world.until(world.made)

    streamed = (await world.ask("streamed", price=0.8)).json()
    asked = (await world.ask("asked", price=0.8)).json()
    await world.put(world.features("asked", price=0.2), world.features("last"))

    await world.until(lambda: any(m.subject == "last" for m in world.made()))
    made = {m.subject: m for m in world.made()}
    assert len(world.made()) == 3
    assert streamed["features"]["price"] == made["streamed"].data.features["price"] == 0.2
    assert asked["features"]["price"] == made["asked"].data.features["price"] == 0.8
    assert (await world.client.get("/v1/loops/market/predictions/asked")).json() == asked


class Silent(MemoryEngine):
    """An engine whose broker does not answer any more."""

    def ready(self) -> str | None:
        """Why not."""
        return "Kafka has not answered"


async def test_a_load_balancer_keeps_it_while_the_broker_is_silent(world: World) -> None:
    await world.put(world.state(world.version("logistic-0@1")))
    await world.start(lambda service: Silent(world.broker, service))
    await world.until(lambda: ("logistic-0@1", "ready") in world.reports())

    doors = [await world.client.get(path) for path in ("/readyz", "/v2/health/ready")]

    assert [door.status_code for door in doors] == [200, 200]
    assert (await world.ask("asked", price=0.9)).status_code == 200


class NeverStarted(MemoryConsumer):
    """A consumer whose broker is away."""

    async def start(self) -> None:
        """Never."""
        await asyncio.Event().wait()


class Away(MemoryEngine):
    """An engine whose broker is away: its consumer does not start, and it does not publish."""

    def consumer(
        self, routes: Sequence[Route], *, unit_of_work: UnitOfWork | None = None, start_at: StartAt | None = None
    ) -> MemoryConsumer:
        """One that waits for the broker."""
        return NeverStarted(self, routes)

    async def publish(self, events: Any) -> None:
        """Never."""
        raise Unavailable("the broker is away")


@pytest.mark.promise(10)
async def test_it_answers_after_a_restart_with_everything_else_down_and_delivers_afterwards(world: World) -> None:
    await world.put(world.state(world.version("logistic-0@1")))
    await world.start()
    await world.until(lambda: ("logistic-0@1", "ready") in world.reports())
    await world.stop()

    await world.start(lambda service: Away(world.broker, service), ready=False)
    await asyncio.wait_for(_at_revision(world, 1), 10)
    answers = [await world.ask(f"alone-{i}", price=0.9) for i in range(3)]
    await world.stop()
    assert world.made() == []
    await world.start()

    await world.until(lambda: len(world.made()) == len(world.brought()) == 3)
    assert [(a.status_code, a.json()["version"]) for a in answers] == [(200, "logistic-0@1")] * 3
    again = await world.ask("alone-1", price=0.9)
    assert again.json() == answers[1].json()
    assert len(world.made()) == 3


@pytest.mark.parametrize("time", ["2099-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+05:00"])
async def test_a_time_that_cannot_be_is_refused_and_moves_no_window(world: World, time: str) -> None:
    await world.put(world.state(spec={"features": [{"name": "n", "count": "price", "over": "1h"}]}))
    await world.start()
    said, url = {"entity": "e", "data": {"price": 1, "demand": 1}}, "/v1/loops/market/predict"

    answers = [await world.client.post(url, json=said | t) for t in ({}, {"time": time}, {}, {})]

    assert [a.status_code for a in answers] == [200, 422, 200, 200]
    assert answers[1].json()["errors"][0]["field"] == "time"
    assert [a.json()["features"]["n"] for a in answers if a.status_code == 200] == [1, 2, 3]


async def test_a_full_spool_and_what_does_not_fit_are_refused_with_a_reason(world: World) -> None:
    await world.put(world.state())
    await world.start(max_event_bytes=2_000)
    post = world.client.post
    url = "/v1/loops/market/predict"

    unknown = await post("/v1/loops/nowhere/predict", json={"data": {}})
    wrong = await post(url, json={"data": {"price": "high"}})
    text = await post(url, content=b"a=b", headers={"content-type": "application/x-www-form-urlencoded"})
    nan = await post(
        url, content=b'{"data": {"price": NaN, "demand": 1}}', headers={"content-type": "application/json"}
    )
    large = await post(url, json={"data": {"price": 1, "demand": 1, "x": "y" * 3000}})
    missing = await world.client.get("/v1/loops/market/predictions/nobody")

    assert [r.status_code for r in (unknown, wrong, text, nan, large, missing)] == [404, 422, 415, 400, 413, 404]
    assert [e["field"] for e in wrong.json()["errors"]] == ["data.price", "data.demand"]
    assert "nowhere" in unknown.json()["detail"]
    assert (await world.ask()).status_code == 200


async def test_rest_features_follow_the_entitys_windows_and_its_own_requests(world: World) -> None:
    await world.put(world.state(), world.entity_state("shop", 2, [1.0, 3.0]))
    await world.start()

    first = (await world.ask(price=5.0, entity="shop")).json()
    second = (await world.ask(price=10.0, entity="shop")).json()
    await world.put(world.entity_state("shop", 9, [100.0, 100.0]))
    await world.put(world.state(revision=2))
    await world.until(lambda: world.made())
    await asyncio.wait_for(_at_revision(world, 2), 10)
    third = (await world.ask(price=100.0, entity="shop")).json()

    means = [a["features"]["price_mean"] for a in (first, second, third)]
    assert means == [3.0, 6.0, 100.0]


async def test_a_request_whose_record_finds_no_room_moves_no_window(world: World) -> None:
    await world.put(world.state(), world.entity_state("shop", 2, [1.0, 3.0]))
    await world.start()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        refused = await world.ask(price=500.0, entity="shop")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    answer = (await world.ask(price=5.0, entity="shop")).json()

    assert refused.status_code == 503
    assert answer["features"]["price_mean"] == 3.0


async def _until_answered_by(world: World, answers: list[Any], version: str) -> None:
    await world.until(lambda: answers and answers[-1].json()["version"] == version, deadline_s=40)


async def _at_revision(world: World, revision: int) -> None:
    while (await world.client.get("/v1/loops/market")).json() != {"loop": "market", "revision": revision}:
        await asyncio.sleep(0.005)


async def test_events_of_a_loop_nobody_knows_yet_wait_for_it(world: World) -> None:
    await world.put(world.features("early"))
    await world.start()

    await world.put(world.state())

    [made] = await world.until(world.made)
    assert made.subject == "early"


async def test_the_open_inference_protocol_predicts_row_by_row(world: World) -> None:
    await world.put(world.state(world.version("logistic-0@1")))
    await world.start()
    await world.until(lambda: ("logistic-0@1", "ready") in world.reports())
    inputs = [
        {"name": "price", "shape": [2], "datatype": "FP64", "data": [0.1, 0.9]},
        {"name": "demand", "shape": [2], "datatype": "FP64", "data": [0.5, 0.5]},
    ]

    model = await world.client.get("/v2/models/market")
    answer = await world.client.post("/v2/models/market/infer", json={"id": "r", "inputs": inputs})

    assert [i["name"] for i in model.json()["inputs"]] == ["price", "demand"]
    outputs = {o["name"]: o["data"] for o in answer.json()["outputs"]}
    assert outputs["prediction_id"] == ["r-0", "r-1"]
    assert outputs["prediction"] == [False, True]


@pytest.mark.parametrize(
    "state", [{"ring": {"price": 7}}, {"ring": "text"}, {"span": {"price": [[1, 2], [3]]}}, {"ring": {"price": [{}]}}]
)
async def test_windows_of_another_shape_do_not_cost_their_entity_its_answers(
    world: World, state: dict[str, Any]
) -> None:
    poison = world.entity_state("shop", 2, [1.0])
    poison = poison.model_copy(update={"data": poison.data.model_copy(update={"state": state})})
    await world.put(world.state(), poison)
    await world.start()

    answered = await world.ask("a", entity="shop")

    assert answered.status_code == 200
