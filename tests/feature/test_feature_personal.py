"""What feature does with personal values: opened in memory alone, left out once they are erased."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import event as event_of
from tests.builders.loops import loop_state as state_of
from tests.builders.metrics import metric_value
from tests.builders.personal import bytes_on, forms_of, found_in, keys_away, personal_settings, vault_of
from tests.builders.running import RunningService, http_client, run_consumers
from tests.feature.entity_harness import entity_handlers
from tests.feature.feature_events import SHOP, at_second, event, label, observation, prediction, spec

from everloop_feature.app import build
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.settings import FeatureSettings
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Fields
from everloop_schemas.feature import EntityState, FeaturesComputed, LabelJoined, LabelJoinedData, OutcomeObserved
from everloop_schemas.ingest import EventReceived
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import ObservationReceived
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.keyed.expiry import keyed_on
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position
from everloop_shared.metrics import PERSONAL_ERASED
from everloop_shared.personal import PersonalRecordFailed, Vault

INCOME, CITY = 987654.321, "Ouagadougou"
SEEN = (INCOME, CITY, INCOME + 1, 2 * INCOME)
Observed = EventReceived | ObservationReceived


def loop_spec(personal: bool = True) -> LoopSpec:
    """A loop with windows over personal fields and others, an expression, and the last label."""
    marked: dict[str, Any] = {"personal": True} if personal else {}
    fields = {"price": {"type": "number"}, "income": {"type": "number", **marked}, "city": {"type": "string", **marked}}
    features = [
        {"fields": "all"},
        {"name": "mean_income", "mean": "income", "over": "3 events"},
        {"name": "last_city", "lag": "city"},
        {"name": "mean_price", "mean": "price", "over": "3 events"},
        {"name": "double", "expr": "income * 2"},
        {"name": "last_label", "lag": "label"},
    ]
    return spec(schema=fields, features=features)


def observed(n: int, income: float = INCOME, entity: str = "ada", rest: bool = False) -> Any:
    """The n-th observation, in clear."""
    clear: Observed = observation(n, entity=entity) if rest else event(n, entity=entity)
    fields: Fields = {"price": float(n), "income": income, "city": CITY}
    return clear.copy_with(data=type(clear.data)(entity=entity, fields=fields, received=at_second(n)))


@asynccontextmanager
async def running(folder: Path, of: LoopSpec) -> AsyncIterator[RunningService]:
    """Feature with the keys of a folder, and a loop."""
    broker = MemoryBroker(partitions=1)
    settings = FeatureSettings(partitions=1, **personal_settings(folder))
    service = build(settings, broker.engine, keyed_on(broker.engine, 1, interval_s=0.02))
    async with run_consumers(service):
        feature = RunningService(broker, service)
        await feature.publish(state_of(of))
        yield feature


async def opened_by(vault: Vault, one: Any) -> Any:
    return await vault.open_event(one)


async def seal(vault: Vault, clear: Observed) -> Any:
    return await vault.seal_event(clear, loop_spec().personal_fields)


@pytest.mark.parametrize("rest", [False, True])
async def test_features_and_windows_are_those_of_a_loop_without_personal_fields_and_show_nowhere(
    tmp_path: Path, rest: bool
) -> None:
    vault, seen = vault_of(tmp_path), dict[bool, list[Any]]()
    for personal in (False, True):
        async with running(tmp_path, loop_spec(personal)) as feature:
            for n in range(4):
                clear = observed(n, INCOME + n % 2, rest=rest and n % 2 == 1)
                await feature.publish(await seal(vault, clear) if personal else clear)
            await feature.until(lambda feature=feature: _applied(feature) == 4)  # type: ignore[misc]
            found = [*feature.published(FeaturesComputed), feature.published(EntityState)[-1]]
            opened = [await vault.open_event(one) for one in found]
            seen[personal] = [
                (list(one.data.features.items()) if isinstance(one, FeaturesComputed) else one.data.state)
                for one in opened
                if one
            ]
            hits = found_in(bytes_on(feature.broker), SEEN)
            assert bool(hits) is not personal

    assert seen[True] == seen[False]
    assert len(seen[True]) == (3 if rest else 5)


def _applied(feature: RunningService) -> int:
    return max((state.data.applied for state in feature.published(EntityState)), default=0)


async def test_what_is_stored_shows_nothing_and_a_label_is_applied_to_it(tmp_path: Path) -> None:
    store, vault = KeyedStore("entities"), vault_of(tmp_path)
    handlers = entity_handlers(_loops(loop_spec()), store, vault=vault)
    joined = event_of(LabelJoined, "joined", vars_of(LabelJoinedData(prediction_id="e0", entity="ada", label=True)))
    joined = joined.copy_with(loop=SHOP, subject="ada")

    await handlers.on_event_received(await seal(vault, observed(0)), at("ingest.event_received.v1", 0))
    [labelled] = await handlers.on_label_joined(joined, at("feature.label_joined.v1", 0))
    vector, _ = await handlers.on_event_received(await seal(vault, observed(1)), at("ingest.event_received.v1", 1))

    stored = store.get(f"{SHOP}/ada", Position(""))
    opened, state = await opened_by(vault, vector), await opened_by(vault, labelled)
    assert stored
    assert found_in(stored, SEEN) == found_in(vector.encode() + labelled.encode(), SEEN) == []
    assert opened
    assert opened.data.features["last_label"] is True
    assert opened.data.features["mean_income"] == INCOME
    assert state
    assert state.data.state["label"][0] is True
    assert labelled.data.state == {}


async def test_a_label_finds_the_windows_that_were_sealed_before_the_loop_had_no_personal_field_any_more(
    tmp_path: Path,
) -> None:
    store, vault = KeyedStore("entities"), vault_of(tmp_path)
    before, after = (entity_handlers(_loops(loop_spec(personal)), store, vault=vault) for personal in (True, False))
    joined = event_of(LabelJoined, "joined", vars_of(LabelJoinedData(prediction_id="e0", entity="ada", label=True)))
    await before.on_event_received(await seal(vault, observed(0)), at("ingest.event_received.v1", 0))

    await after.on_label_joined(joined.copy_with(loop=SHOP, subject="ada"), at("feature.label_joined.v1", 0))
    vector, _ = await after.on_event_received(observed(1, INCOME + 1), at("ingest.event_received.v1", 1))

    assert isinstance(vector, FeaturesComputed)
    assert (vector.data.features["last_label"], vector.data.features["mean_income"]) == (True, INCOME + 0.5)


async def test_records_of_an_erased_entity_are_left_out_and_it_begins_anew(tmp_path: Path) -> None:
    store, vault = KeyedStore("entities"), vault_of(tmp_path)
    handlers = entity_handlers(_loops(loop_spec()), store, vault=vault)
    late = await seal(vault, observed(1, INCOME + 1))
    await handlers.on_event_received(await seal(vault, observed(0)), at("ingest.event_received.v1", 0))
    joined = event_of(LabelJoined, "joined", vars_of(LabelJoinedData(prediction_id="e0", entity="ada", label=True)))
    before = metric_value(PERSONAL_ERASED.labels("feature"))

    vault.erase(SHOP, "ada")
    left_out = [
        await handlers.on_event_received(late, at("ingest.event_received.v1", 1)),
        await handlers.on_label_joined(joined.copy_with(loop=SHOP, subject="ada"), at("feature.label_joined.v1", 0)),
    ]
    anew = await handlers.on_event_received(await seal(vault, observed(2, 5.0)), at("ingest.event_received.v1", 2))
    opened = await opened_by(vault, anew[0])

    assert left_out == [[], []]
    assert metric_value(PERSONAL_ERASED.labels("feature")) == before + 2
    assert opened
    assert opened.data.features["mean_income"] == 5.0
    assert opened.data.features["last_city"] is None


async def test_while_the_keys_are_away_records_wait_and_then_none_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.personal.key_store.BUSY_S", 0.05)
    vault = vault_of(tmp_path)
    async with running(tmp_path, loop_spec()) as feature:
        sealed = [await seal(vault, observed(n, entity=f"e{n}")) for n in range(20)]
        with keys_away(tmp_path):
            await feature.publish(*sealed)
            async with http_client(feature.service, raises=False) as client:
                await feature.until(lambda: _retries() > 0)
                answer = await client.get(f"/v1/loops/{SHOP}")
        vectors = await feature.wait_for(FeaturesComputed, 20)

    assert answer.status_code == 200
    assert {vector.subject for vector in vectors} == {f"e{n}" for n in range(20)}
    assert feature.published(DEAD_LETTERS["feature"]) == []


def _retries() -> float:
    from everloop_shared.metrics import RETRIES

    return sum(s.value for f in RETRIES.collect() for s in f.samples if s.labels.get("service") == "feature")


async def test_an_outcome_takes_the_token_of_its_prediction_over_without_a_key(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    names = loop_spec().personal_features
    made = prediction(0, features={"price": 1.0, "income": INCOME, "city": CITY})
    sealed = await vault.seal_event(made, names)
    async with running(tmp_path, loop_spec()) as feature:
        with keys_away(tmp_path):
            await feature.publish(sealed, label(0))
            [outcome] = await feature.wait_for(OutcomeObserved, 1)

    opened = await vault.open_event(outcome)
    assert outcome.data.personal == sealed.data.personal
    assert outcome.data.features == {"price": 1.0}
    assert opened
    assert opened.data.features == made.data.features


async def test_whoever_may_read_an_entity_sees_its_values_and_serving_asks_for_them_sealed(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    async with running(tmp_path, loop_spec()) as feature:
        await feature.publish(await seal(vault, observed(0)))
        await feature.until(lambda: _applied(feature) == 1)
        async with http_client(feature.service, f"/v1/loops/{SHOP}/entities/") as client:
            shown, sealed = await client.get("ada"), await client.get("ada?sealed=true")
            vault.erase(SHOP, "ada")
            next(r for r in feature.service.resources if isinstance(r, Vault)).forget(SHOP, "ada")
            erased = await client.get("ada")

    assert shown.json()["features"]["mean_income"] == INCOME
    assert list(shown.json()["features"]) == list(loop_spec().feature_names)
    assert shown.json()["state"]["ring"]["income"] == [INCOME]
    assert (sealed.json()["state"], found_in(sealed.content, SEEN)) == ({}, [])
    assert sealed.json()["personal"]
    assert (erased.status_code, erased.json()["code"]) == (404, "entity_not_found")


async def test_an_error_at_personal_values_quotes_none(tmp_path: Path) -> None:
    store, vault = KeyedStore("entities"), vault_of(tmp_path)
    handlers = entity_handlers(_loops(loop_spec()), store, vault=vault)
    await handlers.on_event_received(await seal(vault, observed(0)), at("ingest.event_received.v1", 0))
    entity = handlers.table.load(f"{SHOP}/ada", at("", 0), 1)
    odd = vault.seal_now(SHOP, "ada", {"state": {"ring": CITY}})
    store.put(f"{SHOP}/ada", entity.with_state({}, odd).dump(), at("ingest.event_received.v1", 0))

    with pytest.raises(PersonalRecordFailed) as raised:
        await handlers.on_event_received(await seal(vault, observed(1)), at("ingest.event_received.v1", 1))

    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert found_in(str(raised.value).encode(), SEEN) == []


async def test_an_id_that_comes_again_is_known_by_a_fingerprint_that_needs_the_key(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    async with running(tmp_path, loop_spec()) as feature, running(tmp_path, loop_spec(False)) as clear:
        await clear.publish(observed(0))
        [plain] = await clear.wait_for(FeaturesComputed, 1)
        await feature.publish(await seal(vault, observed(0)), await seal(vault, observed(0)))
        await feature.publish(await seal(vault, observed(0, INCOME + 1)))
        [letter] = await feature.wait_for(DEAD_LETTERS["feature"], 1)

    [vector] = feature.published(FeaturesComputed)
    assert vector.data.fingerprint != plain.data.fingerprint
    assert letter.data.error == "IdTaken"


async def test_without_keys_the_records_of_a_loop_with_personal_fields_wait() -> None:
    handlers = entity_handlers(_loops(loop_spec()), KeyedStore("entities"))

    with pytest.raises(Unavailable, match="EVERLOOP_PERSONAL_MASTER_KEY"):
        await handlers.on_event_received(observed(0), at("ingest.event_received.v1", 0))


def test_the_search_finds_what_it_should() -> None:
    for value in (INCOME, CITY):
        assert all(found_in(b"x" * 7 + form + b"y" * 9, [value]) for form in forms_of(value))
    assert found_in(struct.pack(">d", INCOME), SEEN) == [INCOME]


def at(topic: str, offset: int) -> Position:
    return Position(topic, 0, offset, 0)


def vars_of(data: LabelJoinedData) -> dict[str, Any]:
    return {"prediction_id": data.prediction_id, "entity": data.entity, "label": data.label}


def _loops(of: LoopSpec) -> ActiveLoops:
    loops = ActiveLoops()
    loops.apply(state_of(of))
    return loops
