"""A deleted loop is dropped from memory; one applied again has nothing of its earlier lifetime."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from everloop_schemas.feature import OutcomeObserved

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app


def outcome(serving: RunningServing, prediction_id: str, label: bool, revision: int = 1) -> OutcomeObserved:
    """A prediction of a revision of the loop, with its label."""
    return serving.outcome(prediction_id, label).copy_with(revision=revision)


async def answered(serving: RunningServing, status: int, prediction_id: str = "z") -> httpx.Response:
    """The first answer with this status."""
    deadline = asyncio.get_running_loop().time() + 10
    while (answer := await serving.predict(prediction_id)).status_code != status:
        assert asyncio.get_running_loop().time() < deadline, answer.text
        await asyncio.sleep(0.01)
    return answer


async def with_state(serving: RunningServing) -> None:
    """A loop with a model, an entity, a label and a prediction."""
    await serving.publish(serving.state(serving.version("logistic-0@30")), serving.entity_state("ada", 1, [0.9]))
    await serving.start()
    await serving.until(lambda: serving.version_states())
    await serving.publish(*(outcome(serving, f"o{n}", True) for n in range(3)))
    assert (await serving.predict("a")).json()["version"] == "logistic-0@30"


async def test_a_deleted_loop_is_answered_404_with_the_reason_and_its_records_are_dropped(
    serving: RunningServing,
) -> None:
    await with_state(serving)

    await serving.publish(serving.state(deleted=True))
    gone = await answered(serving, 404, "a")
    await serving.publish(serving.features("late"), outcome(serving, "late", True))
    other = await serving.predict("b")

    assert "was deleted" in gone.json()["detail"]
    assert other.status_code == 404
    assert [prediction.subject for prediction in serving.predictions()] == ["a"]


async def test_in_a_new_lifetime_the_same_id_is_predicted_anew_and_old_labels_do_not_count(
    serving: RunningServing,
) -> None:
    await with_state(serving)
    await serving.publish(serving.state(deleted=True))
    await answered(serving, 404, "a")

    await serving.publish(serving.state(revision=2, life=2))
    again = await answered(serving, 200, "a")
    await serving.publish(outcome(serving, "late", True))

    assert (again.json()["version"], again.json()["prediction"]) == ("0", False)
    predictions = await serving.until(lambda: serving.predictions()[1:])
    assert (predictions[0].subject, predictions[0].revision) == ("a", 2)


async def test_a_restart_after_deletion_and_a_new_lifetime_counts_no_old_label(serving: RunningServing) -> None:
    await with_state(serving)
    await serving.stop()
    saved = json.loads((serving.folder / "serving" / "labels.json").read_text())
    assert saved["loops"]["market"]["count"] == 3

    await serving.publish(
        serving.state(deleted=True), serving.state(revision=2, life=2), outcome(serving, "late", True)
    )
    await serving.start()
    answer = await answered(serving, 200, "b")

    assert (answer.json()["version"], answer.json()["prediction"]) == ("0", False)


async def test_a_new_instance_counts_the_labels_of_the_present_lifetime_only(serving: RunningServing) -> None:
    old = [outcome(serving, f"o{n}", True) for n in range(3)]
    new = [outcome(serving, f"n{n}", False, revision=2) for n in range(2)]
    entity = serving.entity_state("ada", 1, [0.9]).copy_with(revision=1)
    await serving.publish(*old, *new, entity)

    await serving.publish(serving.state(revision=2, life=2))
    await serving.start()
    answer = (await serving.predict("b", entity="ada", price=0.5)).json()

    assert answer["prediction"] is False
    assert answer["features"]["price_mean"] == 0.5, "the entity is new in this lifetime"
