"""What serving does with personal values: answers as ever, and nothing that it stores or publishes shows them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders import events
from tests.builders.metrics import metric_value
from tests.builders.personal import bytes_below, bytes_on, found_in, keys_away, personal_settings, vault_of
from tests.serving.conftest import SPEC, RunningServing
from tests.serving.grpc_calls import grpc_client, typed
from tests.serving.test_serving_erasures import receipt

from everloop.local.ports import free_port
from everloop_models.formats.river.model import RiverModel
from everloop_schemas.envelope import DataEvent
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import PredictionMade
from everloop_serving.domain.recent import RecentPredictions
from everloop_shared.metrics import PERSONAL_ERASED

PRICE, OTHER = 0.98765432123, 0.12345678987
SEEN = (PRICE, OTHER, (PRICE + OTHER) / 2)
TIME = "2026-01-01T00:00:00Z"
MARKED = {"price": {"type": "number", "personal": True}, "demand": {"type": "number"}}
NAMES = frozenset({"price", "price_mean"})
LOOP = "/v1/loops/market"


def state(serving: RunningServing, personal: bool = True, **data: Any) -> LoopState:
    """The loop with a trained champion; its price, and the mean of it, are personal."""
    schema = MARKED if personal else SPEC["schema"]
    return serving.state(serving.version("logistic-0@1"), spec={"schema": schema}, **data)


async def start(serving: RunningServing, personal: bool = True, **settings: Any) -> None:
    await serving.publish(state(serving, personal))
    await serving.start(**personal_settings(serving.folder), **settings)
    await serving.until(lambda: serving.version_states() == [("logistic-0@1", "ready")], 40)


async def ask_in_every_way(serving: RunningServing, grpc_port: int) -> list[Any]:
    """Answers by REST, alone and in lists, explained, repeated, looked up, and by the Open Inference Protocol."""
    row: dict[str, Any] = {"id": "a", "entity": "anna", "time": TIME, "data": {"price": PRICE, "demand": 0.25}}
    second: dict[str, Any] = {**row, "id": "b", "data": {"price": OTHER, "demand": 0.5}}
    third = {**second, "id": "c", "explain": True}
    tensors = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]} for name, value in second["data"].items()
    ]
    own = [
        {"name": name, "shape": [1], "datatype": "BYTES", "data": [value]}
        for name, value in (("id", "d"), ("entity", "anna"), ("time", TIME))
    ]
    asked: list[tuple[str, Any]] = [
        (f"{LOOP}/predict", row),
        (f"{LOOP}/predict", [second, row, third]),
        (f"{LOOP}/predict", {**row, "explain": True}),
        ("/v2/models/market/infer", {"inputs": tensors + own, "parameters": {"explain": True}}),
    ]
    answers = [await serving.client.post(path, json=body) for path, body in asked]
    answers += [await serving.client.get(f"{LOOP}/predictions/{name}") for name in "abcd"]
    answers.append(await serving.client.post(f"{LOOP}/predict", json={**row, "data": {"price": OTHER, "demand": 0.25}}))
    async with grpc_client(grpc_port) as client:
        columns = {name: [value] for name, value in second["data"].items()}
        inferred = await client.infer(typed(columns, parameters={"id": "b", "entity": "anna", "time": TIME}))
    return [
        *[(answer.status_code, _without_request(answer)) for answer in answers],
        (200, inferred.SerializeToString()),
    ]


def _without_request(answer: httpx.Response) -> Any:
    body = answer.json()
    return {name: value for name, value in body.items() if name != "request_id"} if isinstance(body, dict) else body


@pytest.mark.timeout(180)
async def test_answers_are_those_of_a_loop_without_personal_fields_and_nothing_else_shows_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = {}
    for personal in (False, True):
        caplog.clear()
        serving = RunningServing(tmp_path / str(personal))
        (tmp_path / str(personal)).mkdir()
        try:
            port = free_port()
            await start(serving, personal, grpc_port=port)
            answers[personal] = await ask_in_every_way(serving, port)
            await serving.until(lambda serving=serving: len(serving.predictions()) == 4)  # type: ignore[misc]
        finally:
            await serving.stop()
        logged = repr([vars(one) for one in caplog.records]) + caplog.text
        shown = found_in(bytes_on(serving.broker) + bytes_below(serving.folder) + logged.encode(), SEEN)
        assert bool(shown) is not personal

    assert answers[True] == answers[False]
    assert [status for status, _ in answers[True]] == [*[200] * 8, 409, 200]
    explained = [p for p in serving.predictions() if p.data.explanation]
    opened = [await vault_of(serving.folder).open_event(one) for one in explained]
    assert [set(p.data.explanation.contributions) for p in explained if p.data.explanation] == [{"demand"}] * 2
    assert all(o and o.data.explanation and set(o.data.explanation.contributions) >= NAMES for o in opened)


async def test_a_vector_from_the_stream_is_opened_and_its_token_taken_over(serving: RunningServing) -> None:
    await start(serving)
    vault = vault_of(serving.folder)
    vector = serving.features("a", PRICE, fingerprint="00ff")
    sealed = await vault.seal_event(vector, NAMES)

    await serving.publish(sealed)
    [made] = await serving.until(serving.predictions)
    answer = await serving.client.get(f"{LOOP}/predictions/a")

    assert made.data.personal == sealed.data.personal
    assert made.data.features == {"demand": 0.5}
    assert made.data.prediction is True
    assert answer.json()["features"] == vector.data.features
    assert list(answer.json()["features"]) == list(vector.data.features)


async def test_windows_of_feature_are_kept_sealed_and_used(serving: RunningServing) -> None:
    await start(serving)
    vault = vault_of(serving.folder)
    published = serving.entity_state("anna", 2, [PRICE, OTHER])

    await serving.publish(await vault.seal_event(published, NAMES))
    await serving.until(lambda: metric_value_of_states(serving) == 1)
    answers = [await serving.predict(entity="anna", price=1.0) for _ in range(2)]

    means = [answer.json()["features"]["price_mean"] for answer in answers]
    assert means == [pytest.approx((PRICE + OTHER + 1) / 3), pytest.approx((OTHER + 2) / 3)]


def metric_value_of_states(serving: RunningServing) -> float:
    from everloop_serving import metrics

    return metric_value(metrics.ENTITIES)


async def test_records_of_an_erased_entity_are_left_out_and_its_windows_begin_anew(serving: RunningServing) -> None:
    await start(serving)
    vault, before = vault_of(serving.folder), metric_value(PERSONAL_ERASED.labels("serving"))
    whole = {"price": PRICE, "demand": 0.5, "price_mean": PRICE}
    late: list[DataEvent] = [
        await vault.seal_event(events.features_computed("a", whole, "anna"), NAMES),
        await vault.seal_event(serving.entity_state("anna", 2, [PRICE, PRICE]), NAMES),
    ]
    known = await serving.predict("known", PRICE, entity="bert")
    vault.erase("market", "anna")
    vault.erase("market", "bert")
    await _forget(serving)

    await serving.publish(*late)
    await serving.until(lambda: metric_value(PERSONAL_ERASED.labels("serving")) == before + 1)
    anew = await serving.predict(entity="anna", price=0.5)
    looked_up = await serving.client.get(f"{LOOP}/predictions/known")

    assert known.json()["features"]["price"] == PRICE
    assert anew.json()["features"]["price_mean"] == 0.5
    assert (looked_up.status_code, looked_up.json()["features"]) == (200, {"demand": 0.5})
    assert [p.subject for p in serving.predictions() if p.subject == "a"] == []


async def test_a_receipt_drops_the_windows_of_who_was_erased_and_leaves_those_of_who_came_back(
    serving: RunningServing,
) -> None:
    await start(serving)
    for name in ("anna", "bert"):
        await serving.predict(f"first-{name}", PRICE, entity=name)
    vault_of(serving.folder).erase("market", "anna")

    await serving.publish(*(receipt(name) for name in ("anna", "bert")))
    await serving.until(lambda: metric_value_of_states(serving) == 1)
    means = [
        (await serving.predict(f"next-{name}", OTHER, entity=name)).json()["features"]["price_mean"]
        for name in ("anna", "bert")
    ]

    assert means == [OTHER, pytest.approx((PRICE + OTHER) / 2)]


async def _forget(serving: RunningServing) -> None:
    """Start again: a process forgets a key that was destroyed by another one after a while."""
    await serving.until(lambda: len(serving.predictions()) == 1)
    await serving.stop()
    await serving.start(**personal_settings(serving.folder))


async def test_a_repeated_id_gets_the_same_answer_after_a_restart(serving: RunningServing) -> None:
    await start(serving)
    first = await serving.predict("a", PRICE, entity="anna")
    await serving.stop()
    await serving.start(**personal_settings(serving.folder))

    again, other = await serving.predict("a", PRICE, entity="anna"), await serving.predict("a", OTHER, entity="anna")

    assert first.json() == again.json()
    assert first.json()["features"]["price"] == PRICE
    assert (other.status_code, other.json()["code"]) == (409, "id_taken")


async def test_while_the_keys_are_away_requests_are_answered_503_and_vectors_wait(
    serving: RunningServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.personal.key_store.BUSY_S", 0.05)
    await start(serving)
    sealed = await vault_of(serving.folder).seal_event(serving.features("a", PRICE), NAMES)

    with keys_away(serving.folder):
        await serving.publish(sealed)
        away = await serving.predict("b", PRICE, entity="new")
        v2 = await serving.client.post("/v2/models/market/infer", json=TENSORS)
    back = await serving.predict("b", PRICE, entity="new")
    await serving.until(lambda: {p.subject for p in serving.predictions()} == {"a", "b"})

    assert (away.status_code, away.headers["retry-after"], v2.status_code) == (503, "1", 503)
    assert back.status_code == 200
    assert len(serving.predictions()) == 2


TENSORS = {
    "inputs": [
        {"name": "price", "shape": [1], "datatype": "FP64", "data": [0.5]},
        {"name": "demand", "shape": [1], "datatype": "FP64", "data": [0.5]},
    ]
}


async def test_a_model_that_fails_at_personal_values_is_reported_without_them(
    serving: RunningServing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await start(serving)

    def fail(self: object, features: dict[str, Any]) -> None:
        raise ValueError(f"cannot use {features}")

    monkeypatch.setattr(RiverModel, "predict", fail)
    answer = await serving.predict("a", PRICE)
    await serving.until(lambda: ("logistic-0@1", "fell_back") in serving.version_states())

    assert answer.json()["version"] != "logistic-0@1"
    assert found_in(bytes_on(serving.broker) + caplog.text.encode(), SEEN) == []


def test_what_is_remembered_of_predictions_is_what_was_written() -> None:
    made = events.prediction_made("a", personal="0123456789abcdef.AAAA")
    recent = RecentPredictions(10)

    recent.add(made, durable=True)

    found = recent.get("market", "a")
    assert found is not None
    assert found.event.data.personal == made.data.personal
    assert isinstance(found.event, PredictionMade)
