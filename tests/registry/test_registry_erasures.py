"""Erasing a person: the decision, what is asked of feature, and the receipt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.builders.loops import NOW
from tests.builders.running import until
from tests.registry.registry_harness import (
    LOOP_FILE,
    HandlerHarness,
    SteppingClock,
    apply_file,
    decided_types,
    dump,
    market_spec,
    publish,
    registry,
)

from everloop_learning.errors import LoopNotFound
from everloop_registry.domain.erasures import erasures_of
from everloop_registry.handlers.erasures import ErasureHandlers
from everloop_schemas.envelope import Event
from everloop_schemas.erasure import (
    EntityErased,
    EntityErasureDone,
    EntityErasureDoneData,
    ErasureConfirmed,
    ErasureDecided,
    Removed,
)
from everloop_schemas.registry import LoopState
from everloop_shared.commands import Actor
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position

ADA = Actor("ada", "token", "https://login")
AT = Position(EntityErasureDone.topic.name)


def receipt(decision: int | None, id: str = "r-1", loop: str = "market") -> EntityErasureDone:
    """What feature publishes once it has erased a customer."""
    removed = Removed(observations=7, windows=2, features=3, sealed=True)
    cause = "person" if decision is not None else "retention"
    data = EntityErasureDoneData(cause=cause, removed=removed, decision=decision)
    return EntityErasureDone(id=id, time=NOW, subject="c-1", loop=loop, revision=1, data=data)


class Erasing:
    """The handlers over the harness's store."""

    def __init__(self, harness: HandlerHarness) -> None:
        self.harness = harness
        self.handlers = ErasureHandlers(harness.unit.store, SteppingClock())

    async def erase(self, entity: str = "c-1", actor: Actor = ADA) -> Sequence[Event]:
        """The events of the command."""
        found: list[Event] = []

        async def work() -> Sequence[Event]:
            found.extend(
                await self.handlers.erase("market", entity, "asked by letter", "keep", ("a-0@1",), actor=actor)
            )
            return found

        await self.harness.in_unit(work)
        return found

    async def done(self, event: EntityErasureDone) -> None:
        """Take a receipt in."""
        await self.harness.in_unit(lambda: self.handlers.on_erasure_done(event, AT))


async def test_an_erasure_is_a_decision_with_its_actor_and_asks_feature_in_the_same_transaction(
    harness: HandlerHarness,
) -> None:
    await harness.command("apply", market_spec())
    erasing = Erasing(harness)

    decided, state, asked = await erasing.erase()

    assert isinstance(decided, ErasureDecided)
    assert isinstance(state, LoopState)
    assert isinstance(asked, EntityErased)
    assert (decided.subject, decided.actor, decided.actor_kind, decided.sequence) == ("c-1", "ada", "token", 1)
    assert (decided.data.reason, decided.data.models, decided.data.versions) == ("asked by letter", "keep", ("a-0@1",))
    assert (asked.key(), asked.causationid, asked.data.decision) == (b"market/c-1", decided.id, 1)
    assert (await harness.loop()).sequence == 1


async def test_asking_twice_is_one_erasure_until_the_receipt_and_another_one_after_it(harness: HandlerHarness) -> None:
    await harness.command("apply", market_spec())
    erasing = Erasing(harness)

    [decided, _, asked] = await erasing.erase()
    [again] = await erasing.erase(actor=Actor("eve", "token", "https://login"))
    await erasing.done(receipt(1))
    later = await erasing.erase()

    found = erasures_of(await harness.reader.erasures("market", "c-1"))
    assert isinstance(asked, EntityErased)
    assert isinstance(again, EntityErased)
    assert (again.id, again.time, again.data) == (asked.id, asked.time, asked.data), "the event before may be lost"
    assert again.causationid == decided.id
    assert [type(event) for event in later] == [ErasureDecided, LoopState, EntityErased]
    assert [(one.confirmed is not None) for one in found] == [True, False]


async def test_a_receipt_that_comes_twice_is_confirmed_once_and_says_what_was_removed(harness: HandlerHarness) -> None:
    await harness.command("apply", market_spec())
    erasing = Erasing(harness)
    await erasing.erase()

    await erasing.done(receipt(1))
    await erasing.done(receipt(1))

    confirmed = [d for d in harness.decisions if isinstance(d, ErasureConfirmed)]
    assert [(d.data.decision, d.data.removed.observations, d.causationid) for d in confirmed] == [(1, 7, "r-1")]


async def test_an_erasure_by_retention_is_confirmed_without_a_decision_that_asked_for_it(
    harness: HandlerHarness,
) -> None:
    await harness.command("apply", market_spec())
    erasing = Erasing(harness)

    await erasing.done(receipt(None))

    [found] = erasures_of(await harness.reader.erasures("market", "c-1"))
    assert found.decided is None
    assert found.confirmed is not None
    assert found.confirmed.data.cause == "retention"


async def test_a_receipt_of_a_deleted_loop_changes_nothing_and_nobody_is_erased_in_one(harness: HandlerHarness) -> None:
    await harness.command("apply", market_spec())
    await harness.command("delete", "market", "over")
    erasing, before = Erasing(harness), len(harness.decisions)

    await erasing.done(receipt(1))

    assert len(harness.decisions) == before
    with pytest.raises(LoopNotFound):
        await erasing.erase()


@pytest.mark.app
async def test_an_erasure_is_pending_until_the_receipt_and_a_registry_from_the_topics_alone_is_equal(
    tmp_path: Path,
) -> None:
    broker, body = MemoryBroker(), {"reason": "asked by letter", "models": "retrain", "versions": ["a-0@200"]}
    async with registry(broker, tmp_path / "one") as client:
        await apply_file(client, LOOP_FILE.replace("price: {type: number}", "price: {type: number, personal: true}"))
        await apply_file(client, LOOP_FILE.replace("loop: market", "loop: plain"), "plain")
        asked = await client.post("/market/entities/c%2F1/erase", json=body)
        [request] = broker.events(EntityErased.topic)
        done = receipt(request.data.decision).copy_with(subject="c/1", causationid=request.id)
        await publish(broker, done)
        await until(lambda: "erasure_confirmed" in decided_types(broker))
        after = await client.get("/market/entities/c%2F1/erasures")
        wrong = [
            await client.post("/market/entities/c-1/erase", json=body | {"versions": ["no version"]}),
            await client.post("/market/entities/%20c/erase", json=body),
            await client.post("/market/entities/c-1/erase", json={"reason": "x"}),
            await client.post("/nobody/entities/c-1/erase", json=body),
            await client.post("/plain/entities/c-1/erase", json=body),
        ]
    async with registry(broker, tmp_path / "two"):
        pass

    [pending], [erased] = asked.json()["erasures"], after.json()["erasures"]
    assert (asked.status_code, pending["state"], pending["models"]) == (202, "pending", "retrain")
    assert (erased["state"], erased["removed"]["windows"], erased["versions"]) == ("erased", 2, ["a-0@200"])
    assert [answer.status_code for answer in wrong] == [422, 422, 422, 404, 409]
    assert await dump(tmp_path / "one") == await dump(tmp_path / "two")
