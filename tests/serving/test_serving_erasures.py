"""An entity that was erased is new to serving, whatever serving had of it in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.builders.loops import NOW
from tests.builders.metrics import metric_value

from everloop_schemas.erasure import EntityErasureDone, EntityErasureDoneData, Removed
from everloop_serving.metrics import ENTITIES

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app


def receipt(entity: str) -> EntityErasureDone:
    """What feature publishes once the key is gone."""
    data = EntityErasureDoneData(cause="person", removed=Removed(sealed=True), decision=3)
    return EntityErasureDone(id=f"done-{entity}", time=NOW, subject=entity, loop="market", revision=1, data=data)


async def test_windows_of_an_erased_entity_are_gone_although_serving_was_ahead_of_feature(
    serving: RunningServing,
) -> None:
    await serving.publish(serving.state(), *(serving.entity_state(name, 1, [1.0]) for name in ("shop", "other")))
    await serving.publish(receipt("other"))  # from before the start: the state that came after it counts
    await serving.start()
    before = (await serving.predict("a", price=3.0, entity="shop")).json()["features"]["price_mean"]

    await serving.publish(receipt("shop"))
    await serving.until(lambda: metric_value(ENTITIES) == 1)
    means = [
        (await serving.predict(entity, price=9.0, entity=entity)).json()["features"]["price_mean"]
        for entity in ("shop", "other")
    ]

    assert (before, means) == (2.0, [9.0, 5.0])
