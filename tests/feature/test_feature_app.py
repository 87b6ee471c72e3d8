"""The whole service over the memory engine: events in, events out."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY
from tests.builders.running import RunningService
from tests.feature.feature_events import event, label, loop_state, observation, prediction, spec

from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.feature import EntityState, FeaturesComputed, LabelJoined, OutcomeObserved

FeatureDeadLetter = DEAD_LETTERS["feature"]


async def test_observations_become_vectors_in_order(feature: RunningService) -> None:
    await feature.publish(loop_state())

    await feature.publish(*[event(n, price=float(n)) for n in range(4)])

    vectors = await feature.wait_for(FeaturesComputed, 4)
    assert [v.data.features["mean_3"] for v in vectors] == [0.0, 0.5, 1.0, 2.0]
    assert [v.data.prediction_id for v in vectors] == ["e0", "e1", "e2", "e3"]


async def test_a_rest_observation_moves_the_windows_without_a_vector(feature: RunningService) -> None:
    await feature.publish(loop_state(), observation(0, price=4.0))
    await feature.wait_for(EntityState, 1)

    await feature.publish(event(1, price=2.0))

    [vector] = await feature.wait_for(FeaturesComputed, 1)
    assert vector.data.features["mean_3"] == 3.0
    assert await feature.until(lambda: feature.published(EntityState)[-1].data.applied == 2)


async def test_an_event_of_a_loop_not_yet_known_waits_for_it(feature: RunningService) -> None:
    await feature.publish(event(0))

    await feature.publish(loop_state())

    await feature.wait_for(FeaturesComputed, 1)
    assert feature.published(FeatureDeadLetter) == []


async def test_a_repeated_id_is_one_observation(feature: RunningService) -> None:
    await feature.publish(loop_state(), event(0, price=1.0), event(0, price=1.0), event(1, price=3.0))

    vectors = await feature.wait_for(FeaturesComputed, 2)

    assert [v.data.features["mean_3"] for v in vectors] == [1.0, 2.0]


async def test_label_and_prediction_join_in_either_order(feature: RunningService) -> None:
    await feature.publish(loop_state(), prediction(0), label(1))

    await feature.publish(label(0), prediction(1))

    outcomes = {o.subject: o for o in await feature.wait_for(OutcomeObserved, 2)}
    assert outcomes["e0"].data.label is outcomes["e1"].data.label is True
    assert outcomes["e0"].time == label(0).time


async def test_the_last_label_reaches_the_entity(feature: RunningService) -> None:
    with_label = spec(features=[{"name": "last_label", "lag": "label"}])
    await feature.publish(loop_state(with_label), event(0), prediction(0), label(0, value=False))
    await feature.wait_for(LabelJoined, 1)
    await feature.wait_for(EntityState, 1)

    await feature.publish(event(1))

    vectors = await feature.wait_for(FeaturesComputed, 2)
    assert [v.data.features for v in vectors] == [{"last_label": None}, {"last_label": False}]


async def test_a_label_whose_prediction_never_comes_is_a_dead_letter(feature: RunningService) -> None:
    await feature.publish(loop_state(spec(label={"within": "100ms"})), label(7))

    [dead_letter] = await feature.wait_for(FeatureDeadLetter, 1)

    assert dead_letter.data.error == "PredictionNeverCame"
    assert "e7" in dead_letter.data.reason
    assert dead_letter.data.topic == "ingest.label_received.v1"


@pytest.mark.promise(12)
async def test_beyond_the_limit_labelled_predictions_are_evicted_first(feature: RunningService) -> None:
    await feature.publish(loop_state(), *[prediction(n) for n in range(100)], *[label(n) for n in range(100)])
    await feature.wait_for(OutcomeObserved, 100)

    await feature.publish(*[prediction(n) for n in range(100, 300)], *[label(n) for n in range(290, 300)])

    await feature.wait_for(OutcomeObserved, 110)


@pytest.mark.promise(12)
async def test_entities_beyond_the_limit_are_evicted(feature: RunningService) -> None:
    await feature.publish(loop_state(), *[event(n, entity=f"entity {n}") for n in range(300)])
    await feature.wait_for(FeaturesComputed, 300)

    await feature.until(lambda: all(entities(partition) == 100 for partition in (0, 1)))


def entities(partition: int) -> float | None:
    return REGISTRY.get_sample_value("everloop_feature_entities", {"partition": str(partition)})
