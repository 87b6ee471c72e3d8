"""A loop that is deleted is unloaded and forgotten; one applied again begins with nothing of its life before."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from everloop_schemas.feature import OutcomeObserved

if TYPE_CHECKING:
    from tests.serving.conftest import World

pytestmark = pytest.mark.app


def outcome(world: World, prediction_id: str, label: bool, revision: int = 1) -> OutcomeObserved:
    """A prediction of a revision of the loop, with its truth."""
    return world.outcome(prediction_id, label).model_copy(update={"revision": revision})


async def asked(world: World, status: int, prediction_id: str = "z") -> httpx.Response:
    """The first answer with this status."""
    deadline = asyncio.get_running_loop().time() + 10
    while (answer := await world.ask(prediction_id)).status_code != status:
        assert asyncio.get_running_loop().time() < deadline, answer.text
        await asyncio.sleep(0.01)
    return answer


async def served(world: World) -> None:
    """A loop with a model, an entity, a label and a prediction."""
    await world.put(world.state(world.version("logistic-0@30")), world.entity_state("ada", 1, [0.9]))
    await world.start()
    await world.until(lambda: world.reports())
    await world.put(*(outcome(world, f"o{n}", True) for n in range(3)))
    assert (await world.ask("a")).json()["version"] == "logistic-0@30"


async def test_a_deleted_loop_is_answered_404_with_the_reason_and_its_records_are_let_go(world: World) -> None:
    await served(world)

    await world.put(world.state(deleted=True))
    gone = await asked(world, 404, "a")
    await world.put(world.features("late"), outcome(world, "late", True))
    other = await world.ask("b")

    assert "was deleted" in gone.json()["detail"]
    assert other.status_code == 404
    assert [made.subject for made in world.made()] == ["a"]


async def test_in_a_new_life_the_same_id_is_asked_anew_and_old_labels_do_not_count(world: World) -> None:
    await served(world)
    await world.put(world.state(deleted=True))
    await asked(world, 404, "a")

    await world.put(world.state(revision=2, life=2))
    again = await asked(world, 200, "a")
    await world.put(outcome(world, "late", True))

    assert (again.json()["version"], again.json()["prediction"]) == ("0", False)
    made = await world.until(lambda: world.made()[1:])
    assert (made[0].subject, made[0].revision) == ("a", 2)


async def test_a_restart_after_deletion_and_a_new_life_counts_no_old_label(world: World) -> None:
    await served(world)
    await world.stop()
    saved = json.loads((world.folder / "serving" / "labels.json").read_text())
    assert saved["loops"]["market"]["count"] == 3

    await world.put(world.state(deleted=True), world.state(revision=2, life=2), outcome(world, "late", True))
    await world.start()
    answer = await asked(world, 200, "b")

    assert (answer.json()["version"], answer.json()["prediction"]) == ("0", False)


async def test_a_fresh_instance_counts_the_labels_of_the_present_life_only(world: World) -> None:
    old = [outcome(world, f"o{n}", True) for n in range(3)]
    new = [outcome(world, f"n{n}", False, revision=2) for n in range(2)]
    entity = world.entity_state("ada", 1, [0.9]).model_copy(update={"revision": 1})
    await world.put(*old, *new, entity)

    await world.put(world.state(revision=2, life=2))
    await world.start()
    answer = (await world.ask("b", entity="ada", price=0.5)).json()

    assert answer["prediction"] is False
    assert answer["features"]["price_mean"] == 0.5, "the entity is new in this life"
