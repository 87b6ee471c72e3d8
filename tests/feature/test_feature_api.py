"""What feature answers about an entity: serving tells from it a new entity from one whose state is not here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.builders import loops
from tests.builders.running import RunningService, http_client, run_consumers
from tests.feature.feature_events import event, loop_state, spec

from everloop_feature.app import build
from everloop_feature.settings import FeatureSettings
from everloop_schemas.feature import EntityState
from everloop_shared.messaging.keyed.expiry import keyed_on
from everloop_shared.messaging.keyed.groups import KeyedGroup
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Consumer, Engine


async def test_an_entity_has_its_windows_and_one_without_observations_is_not_found(feature: RunningService) -> None:
    await feature.publish(loop_state(), event(0, price=4.0), event(1, price=2.0))
    await feature.until(lambda: [s for s in feature.published(EntityState) if s.data.applied == 2])
    [state] = [s for s in feature.published(EntityState) if s.data.applied == 2]

    async with http_client(feature.service, f"/v1/loops/{state.loop}/entities/") as client:
        known, unknown = await client.get(state.data.entity), await client.get("nobody/%C3%A4")

    assert (known.status_code, known.json()["applied"], known.json()["state"]) == (200, 2, state.data.state)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "entity_not_found")


async def test_an_entity_of_an_earlier_lifetime_of_the_loop_is_not_found(feature: RunningService) -> None:
    await feature.publish(loop_state(), event(0, price=4.0))
    [state, *_] = await feature.wait_for(EntityState, 1)
    await feature.publish(loops.loop_state(spec(), revision=2, sequence=2, life=2))

    async with http_client(feature.service, f"/v1/loops/{state.loop}") as client:
        while (await client.get("")).json()["revision"] < 2:
            await asyncio.sleep(0.005)
        answer = await client.get(f"/entities/{state.data.entity}")

    assert (answer.status_code, answer.json()["code"]) == (404, "entity_not_found")


async def test_an_entity_whose_partition_is_not_here_is_not_taken_for_a_new_one() -> None:
    broker, stores = MemoryBroker(partitions=2), list[KeyedGroup]()

    def keyed(service: str, groups: Sequence[KeyedGroup], engine: Engine) -> Sequence[Consumer]:
        stores.extend(groups)
        return keyed_on(broker.engine, 2)(service, groups, engine)

    service = build(FeatureSettings(partitions=2), broker.engine, keyed)
    async with run_consumers(service):
        feature = RunningService(broker, service)
        await feature.publish(loop_state(), event(0, price=4.0))
        [state, *_] = await feature.wait_for(EntityState, 1)
        stores[0].store.set_owned(())
        async with http_client(service, f"/v1/loops/{state.loop}/entities/") as client:
            answers = [await client.get(name) for name in (state.data.entity, "new")]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(503, "entity_elsewhere")] * 2
    assert answers[0].headers["retry-after"] == "1"
