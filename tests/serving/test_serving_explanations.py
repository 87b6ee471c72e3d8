"""Predictions that are explained on request: in the answer and in the record, the same for the same id."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest
from tests.builders.loops import loop_spec
from tests.serving.conftest import SPEC

from everloop_models import build
from everloop_serving.handlers.requests import MAX_EXPLAINED

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app
URL = "/v1/loops/market/predict"
V1 = "logistic-1@300"


async def start(serving: RunningServing) -> None:
    await serving.publish(serving.state(serving.version(V1)))
    await serving.start()
    await serving.until(lambda: (V1, "ready") in serving.version_states(), 60)


def total(explanation: dict[str, Any]) -> float:
    return float(explanation["base"] + sum(explanation["contributions"].values()))


async def test_an_explanation_sums_to_the_log_odds_in_the_answer_and_in_the_record(serving: RunningServing) -> None:
    await start(serving)

    plain = (await serving.predict("a", 0.9)).json()
    answer = (await serving.predict("b", 0.9, explain=True)).json()

    probability = answer["probabilities"]["true"]
    await serving.until(lambda: len(serving.predictions()) == 2)
    records = {p.subject: p.data for p in serving.predictions()}
    assert "explanation" not in plain
    assert records["a"].explanation is None
    assert answer["explanation"]["method"] == "linear"
    assert answer["explanation"]["of"] == "true"
    assert total(answer["explanation"]) == pytest.approx(math.log(probability / (1 - probability)))
    assert set(answer["explanation"]["contributions"]) == {"price", "demand", "price_mean"}
    assert records["b"].explanation is not None
    assert records["b"].explanation.contributions == answer["explanation"]["contributions"]


async def test_a_repeated_request_has_the_same_explanation_also_one_that_did_not_ask_first(
    serving: RunningServing,
) -> None:
    await start(serving)
    asked = await serving.predict("a", 0.7, explain=True)
    await serving.predict("b", 0.7)

    again = await serving.predict("a", 0.7, explain=True)
    read = await serving.client.get("/v1/loops/market/predictions/a")
    later = await serving.predict("b", 0.7, explain=True)

    await serving.until(lambda: len(serving.predictions()) == 2)
    assert again.content == asked.content
    assert read.json() == asked.json()
    assert later.json()["explanation"]["method"] == "linear"
    assert {p.subject: p.data.explanation is None for p in serving.predictions()} == {"a": False, "b": True}


async def test_in_a_list_those_that_ask_are_explained(serving: RunningServing) -> None:
    await start(serving)
    data = {"price": 0.2, "demand": 0.5}

    answer = await serving.client.post(URL, json=[{"data": data}, {"data": data, "explain": True}])

    assert ["explanation" in each for each in answer.json()] == [False, True]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"data": {"price": 1.0, "demand": 1.0}, "explain": "yes"}, "explain"),
        ({"data": {"price": 1.0, "demand": 1.0}, "explain": None}, "explain"),
        (
            [{"data": {"price": 1.0, "demand": 1.0}, "explain": True}] * (MAX_EXPLAINED + 1),
            f"[{MAX_EXPLAINED}].explain",
        ),
    ],
)
async def test_what_asks_wrongly_or_for_too_many_is_refused_and_nothing_is_predicted(
    serving: RunningServing, body: Any, field: str
) -> None:
    await serving.publish(serving.state())
    await serving.start()

    answer = await serving.client.post(URL, json=body)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert not serving.predictions()


async def test_no_feature_contributes_to_what_version_zero_predicts(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start()

    answer = (await serving.predict("a", 0.9, explain=True)).json()

    assert answer["version"] == "0"
    assert set(answer["explanation"]["contributions"].values()) == {0.0}


async def test_a_forest_is_explained_by_the_paths_of_its_trees(serving: RunningServing) -> None:
    spec = loop_spec(**SPEC, models=[{"preset": "adaptive_forest", "trees": 3}])
    model = build(spec.models[0], spec)
    for n in range(500):
        model.learn({"price": n % 10 / 10, "demand": 0.5, "price_mean": 0.5}, n % 10 > 4)
    await serving.publish(serving.state(serving.version(V1, model)))
    await serving.start()
    await serving.until(lambda: (V1, "ready") in serving.version_states(), 60)

    answer = (await serving.predict("a", 0.9, explain=True)).json()

    assert answer["explanation"]["method"] == "tree"
    assert total(answer["explanation"]) == pytest.approx(answer["probabilities"]["true"])
    assert abs(answer["explanation"]["contributions"]["price"]) > 0.1


async def test_a_loop_that_asks_for_it_has_a_score_of_anomaly_in_record_and_answer(serving: RunningServing) -> None:
    await serving.publish(serving.state(spec={"monitor": {"anomalies": True}}))
    await serving.start()
    rows = [{"data": {"price": n % 7 / 7, "demand": n % 5 / 5}} for n in range(600)]
    early = (await serving.predict("early", 0.5)).json()
    await serving.client.post(URL, json=rows)

    usual = (await serving.predict("usual", 3 / 7)).json()
    unusual = (await serving.predict("unusual", 1e6, data={"price": 1e6, "demand": -1e6})).json()
    await serving.publish(serving.state(spec={"monitor": {"anomalies": False}}, revision=2))
    await serving.until(lambda: len(serving.predictions()) == 603)

    records = {p.subject: p.data.anomaly for p in serving.predictions()}
    assert "anomaly" not in early
    assert 0 <= usual["anomaly"] < unusual["anomaly"] <= 1
    assert records["early"] is None
    assert (records["usual"], records["unusual"]) == (usual["anomaly"], unusual["anomaly"])


async def test_what_scores_anomalies_has_learned_survives_another_champion_but_not_another_schema(
    serving: RunningServing,
) -> None:
    spec = {"monitor": {"anomalies": True}}
    await serving.publish(serving.state(spec=spec))
    await serving.start()
    rows = [{"data": {"price": n % 7 / 7, "demand": n % 5 / 5}} for n in range(600)]
    await serving.client.post(URL, json=rows)

    await serving.publish(serving.state(serving.version(V1), spec=spec))
    await serving.until(lambda: (V1, "ready") in serving.version_states(), 60)
    kept = (await serving.predict(price=0.5)).json()
    await serving.publish(serving.state(spec={**spec, "features": [{"fields": "all"}]}, revision=2))
    while (await serving.client.get("/v1/loops/market")).json()["revision"] < 2:
        await asyncio.sleep(0.005)
    anew = (await serving.predict(price=0.5)).json()

    assert "anomaly" in kept
    assert "anomaly" not in anew
