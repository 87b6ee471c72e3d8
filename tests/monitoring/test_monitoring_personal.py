"""What is sealed is not missing: monitoring names personal features, and watches and shows the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.builders.events import observation, prediction_made
from tests.monitoring.monitoring_service import running, state

from everloop_learning.watched_features import watched_features
from everloop_monitoring.domain.expectations import ExpectationWatch
from everloop_schemas.serving import Explanation
from everloop_shared.messaging.memory import MemoryBroker

SPEC = {
    "schema": {"price": {"type": "number"}, "income": {"type": "number", "personal": True}},
    "monitor": {"drift": "all"},
    "expect": [
        {"field": "price", "between": [0, 9]},
        {"field": "income", "present": True, "then": "dead_letter"},
    ],
}
TOKEN = "00.sealed"


@pytest.mark.app
async def test_personal_features_are_named_and_neither_shown_nor_watched_nor_missing(
    tmp_path: Path, databases: object
) -> None:
    told = Explanation(method="linear", base=0.5, contributions={"price": 1.5})
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(state(spec=SPEC))
        await monitoring.caught_up()
        await monitoring.publish(observation("a", {"price": 1.0}, personal=TOKEN))
        await monitoring.publish(prediction_made("a", True, explanation=told, personal=TOKEN))
        await monitoring.caught_up()

        [shown] = await monitoring.get("predictions")
        features = await monitoring.get("features")

    assert (shown["features"], shown["personal"]) == ({"price": 1.0}, ["income"])
    assert shown["explanation"]["contributions"] == {"price": 1.5}
    assert features["personal"] == ["income"]
    assert "income" not in {one["name"] for one in features["features"]}
    assert [(one["field"], one["n"], one["share"]) for one in features["expectations"]] == [("price", 1, 1.0)]


def test_a_spec_that_expects_something_of_personal_fields_alone_is_not_watched_for_it() -> None:
    spec = state(spec=SPEC).data.spec
    alone = state(spec={**SPEC, "expect": SPEC["expect"][1:]}).data.spec  # type: ignore[index]

    assert watched_features(spec) == ("price",)
    assert (ExpectationWatch.is_on(spec), ExpectationWatch.is_on(alone)) == (True, False)
