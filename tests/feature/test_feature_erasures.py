"""Persons are forgotten: on request, after the loop's retention, and with their loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.builders.personal import vault_of
from tests.builders.running import RunningService, until
from tests.feature.entity_harness import NO_KEYS, entity_handlers, erasure_handlers
from tests.feature.feature_events import SHOP, START, event, loop_state
from tests.feature.personal_feature import personal, request

from everloop_feature.domain.entity import PAGE_IDS
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.handlers.erasures import ErasureHandlers
from everloop_schemas.envelope import Event
from everloop_schemas.erasure import EntityErased, EntityErasureDone
from everloop_schemas.feature import EntityState, FeaturesComputed
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position
from everloop_shared.personal import Vault
from everloop_shared.personal.records import comment_holder

SECRET = {"fields": {"price": 987654.25}}


class Shop:
    """Entities and erasures of the shop over a store in memory; each event is handled as the engine does."""

    def __init__(self, vault: Vault = NO_KEYS, of: LoopSpec | None = None) -> None:
        self.store, loops = KeyedStore("entities"), ActiveLoops()
        self.store.attach(MemoryBroker(1).engine("feature"))
        loops.apply(loop_state(of))
        self.entities = entity_handlers(loops, self.store, vault, ids_per_entity=4 * PAGE_IDS)
        self.erasures: ErasureHandlers = erasure_handlers(self.entities, vault)
        self.offset = 0

    async def observe(self, n: int, entity: str = "ada") -> None:
        """Handle an observation."""
        self.offset += 1
        async with self.store:
            await self.entities.on_event_received(event(n, entity=entity), Position("ingest.event_received.v1", 0, n))

    async def erase(self, asked: EntityErased, offset: int = 0) -> Sequence[Event]:
        """Handle a request."""
        at = Position(EntityErased.topic.name, 0, offset)
        async with self.store:
            events = await self.erasures.on_entity_erased(asked, at)
            await self.store.record([], {(at.topic, 0): offset + 1})
        return events

    async def sweep(self) -> Sequence[Event]:
        """Sweep the partition."""
        async with self.store:
            return await self.erasures.sweep(Position("", 0, -1, int(START.timestamp() * 1000)))

    def stored(self) -> list[str]:
        """Every key in the store."""
        return sorted(key for _, key, _ in self.store.items())


async def test_the_key_the_windows_and_all_pages_of_ids_are_gone_when_the_receipt_leaves(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    token, kept = await vault.seal(SHOP, "ada", SECRET), await vault.seal(SHOP, "bob", SECRET)
    shop = Shop(vault, personal())
    for n in range(PAGE_IDS + 5):
        await shop.observe(n)
    await shop.observe(9_999, entity="bob")

    state, receipt = await shop.erase(request())

    assert isinstance(state, EntityState)
    assert isinstance(receipt, EntityErasureDone)
    assert (state.data.state, state.data.applied, state.key()) == ({}, 0, b"shop/ada")
    assert receipt.data.removed.model_dump() == {
        "observations": PAGE_IDS + 5, "windows": 1, "features": 2, "sealed": True
    }  # fmt: skip
    assert (receipt.data.decision, receipt.causationid, receipt.data.cause) == (3, "x3", "person")
    assert shop.stored() == ["shop/bob"]
    assert await vault_of(tmp_path).unseal(SHOP, "ada", token) is None
    assert await vault_of(tmp_path).unseal(SHOP, "bob", kept) == SECRET


async def test_a_request_that_is_handled_again_publishes_the_same_receipt_or_nothing(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    await vault.seal(SHOP, "ada", SECRET)
    shop, crashed = Shop(vault, personal()), Shop(vault, personal())
    await shop.observe(1)
    await crashed.observe(1)

    lost = await crashed.erase(request())  # killed before anything of it was written
    first = await shop.erase(request())
    again = await shop.erase(request())
    nobody = await shop.erase(request("nobody", 4), 1)

    assert [one.encode() for one in first] == [one.encode() for one in lost]
    assert again == []
    assert [type(one) for one in nobody] == [EntityState, EntityErasureDone]


async def test_after_a_restore_an_erasure_leaves_the_key_and_windows_of_who_came_back_since(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    shop = Shop(vault, personal())
    asked = request().copy_with(time=datetime.now(UTC) - timedelta(hours=1))
    for name in ("ada", "bob"):
        await shop.observe(1, entity=name)
    _make_keys_at(tmp_path, asked.time + timedelta(minutes=2), "ada")
    _make_keys_at(tmp_path, asked.time + timedelta(seconds=59), "bob")
    tokens = {name: await vault.seal(SHOP, name, SECRET) for name in ("ada", "bob")}

    [receipt] = await shop.erase(asked)
    events = await shop.erase(asked.copy_with(id="x4", subject="bob"), 1)

    assert isinstance(receipt, EntityErasureDone)
    assert (receipt.subject, receipt.data.removed.observations) == ("ada", 0)
    assert [type(one) for one in events] == [EntityState, EntityErasureDone]
    assert shop.stored() == ["shop/ada"]
    assert await vault_of(tmp_path).unseal(SHOP, "ada", tokens["ada"]) == SECRET
    assert await vault_of(tmp_path).unseal(SHOP, "bob", tokens["bob"]) is None


async def test_windows_of_a_destroyed_key_go_although_the_person_came_back_before_the_erasure_was_finished(
    tmp_path: Path,
) -> None:
    vault = vault_of(tmp_path)
    shop = Shop(vault, personal())
    asked = request().copy_with(time=datetime.now(UTC) - timedelta(hours=1))
    await shop.observe(1)
    vault.erase(SHOP, "ada")  # killed after this; feature starts again when she is there anew
    token = await vault.seal(SHOP, "ada", SECRET)

    state, receipt = await shop.erase(asked)

    assert (type(state), receipt.data.removed.observations) == (EntityState, 1)
    assert shop.stored() == []
    assert await vault_of(tmp_path).unseal(SHOP, "ada", token) == SECRET


async def test_a_loop_without_personal_fields_loses_its_windows_and_the_receipt_says_that_values_stay() -> None:
    shop = Shop()
    await shop.observe(1)

    _, receipt = await shop.erase(request())

    assert isinstance(receipt, EntityErasureDone)
    assert (receipt.data.removed.sealed, receipt.data.removed.observations) == (False, 1)
    assert shop.stored() == []


async def test_an_erasure_waits_for_the_store_of_keys_and_a_sweep_does_not_fail_without_it(tmp_path: Path) -> None:
    away = Vault("postgresql://nobody@127.0.0.1:1/nothing", tmp_path / "none.key")
    shop = Shop(vault_of(tmp_path), personal(retention={"personal": "30d"}))
    shop.erasures = erasure_handlers(shop.entities, away)
    await shop.observe(1)

    with pytest.raises(Unavailable):
        await shop.erase(request())

    assert shop.stored() == ["shop/ada"]
    assert await shop.sweep() == []


async def test_who_was_not_seen_for_as_long_as_the_loop_keeps_is_forgotten_with_a_receipt(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    token = await vault.seal(SHOP, "ada", SECRET)
    await vault.seal(SHOP, comment_holder("never-came"), {"comment": "x"})
    await vault.seal(SHOP, "prediction:never-came", SECRET)  # an entity may be called so
    _make_old(tmp_path)
    await vault.seal(SHOP, "bob", SECRET)
    shop = Shop(vault, personal(retention={"personal": "30d"}))
    await shop.observe(1)
    await shop.observe(2, entity="bob")

    events = await shop.sweep()
    again = await shop.sweep()

    [state, receipt, _, called_so] = events
    assert isinstance(receipt, EntityErasureDone)
    assert (receipt.subject, receipt.data.cause, receipt.data.decision) == ("ada", "retention", None)
    assert called_so.subject == "prediction:never-came"
    assert (state.subject, again, shop.stored()) == ("ada", [], ["shop/bob"])
    assert await vault_of(tmp_path).unseal(SHOP, "ada", token) is None
    assert vault.store.count() == {SHOP: 1}


async def test_a_retention_that_is_interrupted_before_the_key_is_gone_gives_the_same_receipt_again(
    tmp_path: Path,
) -> None:
    vault = vault_of(tmp_path)
    await vault.seal(SHOP, "ada", SECRET)
    _make_old(tmp_path)
    before, after = (Shop(vault, personal(retention={"personal": "30d"})) for _ in range(2))

    [_, lost] = await before.sweep()
    [_, receipt] = await after.sweep()
    await after.sweep()

    assert lost.id == receipt.id
    assert vault.store.count() == {}


def _make_keys_at(folder: Path, time: datetime, entity: str) -> None:
    """The key of an entity says that it was made then."""
    with sqlite3.connect(folder / "personal" / "keys.db") as store:
        store.execute("UPDATE personal_keys SET made_s = ? WHERE entity = ?", [int(time.timestamp()), entity])
    store.close()


def _make_old(folder: Path) -> None:
    """All keys that there are were used a year ago."""
    long_ago = (datetime.now(UTC) - timedelta(days=365)).date().isoformat()
    with sqlite3.connect(folder / "personal" / "keys.db") as store:
        store.execute("UPDATE personal_keys SET last_used = ?", [long_ago])
    store.close()


async def test_the_service_forgets_and_finds_the_same_entity_new(running: RunningService) -> None:
    await running.publish(loop_state(), event(0, price=4.0), event(1, price=2.0))
    await running.wait_for(FeaturesComputed, 2)

    await running.publish(request())
    [receipt] = await running.wait_for(EntityErasureDone, 1)
    await running.publish(event(2, price=7.0))

    vectors = await running.wait_for(FeaturesComputed, 3)
    assert receipt.data.removed.observations == 2
    assert vectors[-1].data.features["mean_3"] == 7.0
    assert [state.data.applied for state in running.published(EntityState)][-2:] == [0, 1]


async def test_the_keys_of_a_deleted_loop_are_destroyed(running: RunningService, tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    await vault.seal(SHOP, "ada", SECRET)
    await vault.seal("other", "ada", SECRET)
    await running.publish(loop_state())

    ended = loop_state(sequence=2)
    gone = ended.data.model_copy(update={"deleted": True})
    await running.publish(ended.copy_with(data=gone, time=datetime.now(UTC) + timedelta(seconds=1)))

    await until(lambda: vault.store.count() == {"other": 1})
