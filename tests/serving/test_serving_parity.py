"""Both doors in any order: the features of every record are those that the pure code computes from the log."""

from __future__ import annotations

import asyncio
import random

import pytest
from msgspec.structs import replace
from tests.builders import events
from tests.parity import by_entity, find_disparities
from tests.serving.conftest import RunningServing
from tests.serving.test_serving_windows import running_feature

from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_schemas.serving import ObservationReceived, PredictionMade

WINDOWS = [
    {"fields": "all"},
    {"name": "price_mean", "mean": "price", "over": "5 events"},
    {"name": "demand_max", "max": "demand", "over": "1h"},
    {"name": "price_last", "last": "price"},
]
ENTITIES, ROUNDS, PER_ROUND, ROOM = 9, 4, 60, 3
TOPICS = (EventReceived, ObservationReceived, FeaturesComputed, PredictionMade)


async def _observe(serving: RunningServing, id: str, dice: random.Random) -> None:
    entity, price, demand = f"e{dice.randrange(ENTITIES)}", dice.random(), dice.random()
    if dice.random() < 0.5:
        await serving.publish(events.observation(id, {"price": price, "demand": demand}, entity))
        return
    answer = await serving.predict(id, data={"price": price, "demand": demand}, entity=entity)
    assert answer.status_code == 200


@pytest.mark.parametrize("seed", [1, 2])
async def test_features_of_every_record_equal_what_the_log_gives_at_its_state(
    serving: RunningServing, seed: int
) -> None:
    dice, state = random.Random(seed), serving.state(spec={"features": WINDOWS})
    await serving.publish(state)
    async with running_feature(serving) as url:
        for part in range(ROUNDS):
            await serving.start(feature_url=url, entity_states=ROOM, entity_read_ms=5_000)
            for number in range(PER_ROUND):
                await _observe(serving, f"{part}-{number}", dice)
                if dice.random() < 0.3:
                    await asyncio.sleep(0)
            await serving.stop()
        await serving.start(feature_url=url)
        await serving.until(lambda: len({p.subject for p in serving.predictions()}) == ROUNDS * PER_ROUND, 30)

    log = [event for kind in TOPICS for event in serving.broker.events(kind.topic) if isinstance(event, TOPICS)]
    sources = {p.data.windows.source for p in serving.predictions() if p.data.windows}
    assert list(find_disparities(state.data.spec, by_entity(log))) == []
    assert sources >= {"stream", "memory", "feature", "new"}
    assert "unread" not in sources
    wrong = _with_a_wrong_feature(serving.predictions()[0])
    assert [found.split()[1] for found in find_disparities(state.data.spec, by_entity([wrong, *log]))] == [
        wrong.subject
    ]


def _with_a_wrong_feature(prediction: PredictionMade) -> PredictionMade:
    features = {**prediction.data.features, "price_mean": -1.0}
    return prediction.copy_with(data=replace(prediction.data, features=features))
