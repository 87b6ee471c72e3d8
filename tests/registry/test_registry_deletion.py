"""Loops that are deleted and applied again; how many there may be, and how often one may change."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from tests.builders.events import challenge_updated, evaluation_updated, model_trained, run_requested, version_state
from tests.databases import database_url
from tests.registry.registry_harness import LOOP_FILE, LOST, WON, YAML, HandlerHarness, market_spec, registry

from everloop_learning.errors import LoopNotFound
from everloop_registry.adapters.loop_reader import SqlLoopReader
from everloop_registry.domain.loop import MAX_KEPT_VERSIONS
from everloop_registry.errors import ArtifactCollected, TooManyChanges, TooManyLoops, VersionNotFound
from everloop_registry.handlers import Quota
from everloop_registry.tables import MIGRATIONS
from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import Decided, LoopState
from everloop_shared.database import Database
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = pytest.mark.usefixtures("databases")
JSON = {"content-type": "application/json"}


async def promoted(harness: HandlerHarness) -> None:
    """Line a-0 is champion at offset 200."""
    await harness.handle(
        run_requested("a-0"),
        challenge_updated(0, {"0": LOST, "a-0": WON}),
        evaluation_updated(0, {"0": [0.5] * 200}),
        model_trained("a-0", 200, "gate"),
    )
    assert (await harness.loop()).champion.version == "a-0@200"


def revised(n: int, loop: str = "market") -> LoopSpec:
    """The loop's spec with a rollout of other steps."""
    return market_spec(loop=loop, rollout={"shadow": 100 + n, "canary": [0.1, 0.5], "step": 100})


def of_revision(event: Event, revision: int) -> Event:
    """The same event, of another revision of the loop."""
    return event.copy_with(revision=revision)


async def test_a_deletion_is_one_decision_however_often_it_is_asked_for(harness: HandlerHarness) -> None:
    await promoted(harness)

    first = await harness.command("delete", "market", "the shop is closed")
    again = await harness.command("delete", "market", "the shop is closed")

    loop = await harness.loop()
    assert (first, again) == (["loop_deleted"], [])
    assert harness.decisions[-1].data.reason == "the shop is closed"
    assert (loop.deleted, loop.champion.version, loop.kept, loop.stage) == (True, "0", (), "idle")
    assert loop.state_event("").data.deleted


async def test_events_that_arrive_after_the_deletion_are_ignored(harness: HandlerHarness) -> None:
    await promoted(harness)
    await harness.command("delete", "market", "over")

    decided = await harness.handle(
        model_trained("a-0", 300),
        challenge_updated(200, {"a-0": LOST, "b-0": WON}),
        evaluation_updated(200, {"a-0@200": LOST}),
        version_state("a-0@200", "failed"),
        run_requested("c-0"),
    )

    assert decided == []
    with pytest.raises(LoopNotFound, match="was deleted"):
        await harness.command("rollback", "market", "too late")
    with pytest.raises(LoopNotFound, match="was deleted"):
        await harness.command("resume", "market", "too late")


async def test_a_loop_that_is_applied_again_begins_a_new_lifetime(harness: HandlerHarness) -> None:
    await promoted(harness)
    await harness.command("delete", "market", "over")

    applied = await harness.command("apply", market_spec(task="regression"))
    old = await harness.handle(challenge_updated(200, {"0": LOST, "a-0": WON}), model_trained("a-0", 400, "gate"))
    new = await harness.handle(of_revision(challenge_updated(400, {"0": LOST, "b-400": WON}), 2))

    loop = await harness.loop()
    assert (applied, old, new) == (["loop_applied"], [], ["gate_decided", "rollout_changed"])
    assert (loop.revision, loop.life, loop.champion.version, loop.previous_champions) == (2, 2, "0", ())
    with pytest.raises((VersionNotFound, ArtifactCollected)):
        await harness.command("rollback", "market", "to the lifetime before", "a-0@200")


async def test_versions_that_a_rollback_may_name_are_kept_and_an_older_one_is_refused(harness: HandlerHarness) -> None:
    await promoted(harness)
    for offset in range(300, 300 + 100 * (MAX_KEPT_VERSIONS + 2), 100):
        await harness.handle(model_trained("b-0", offset, "initial"))

    loop = await harness.loop()
    assert "a-0@200" in loop.kept, "it is champion"
    assert "b-0@300" not in loop.kept, "it is neither live nor of the latest"
    assert loop.judged == 300 + 100 * (MAX_KEPT_VERSIONS + 1)
    with pytest.raises(ArtifactCollected, match=r"collected.*retrain"):
        await harness.command("rollback", "market", "far back", "b-0@300")
    assert await harness.command("rollback", "market", "near", "b-0@500") == ["model_rolled_back"]


async def test_one_loop_more_than_the_limit_is_refused_with_the_fix(tmp_path: Path) -> None:
    async with Database(database_url(tmp_path), MIGRATIONS, schema="registry") as database:
        harness = HandlerHarness(database, Quota(loops=2))
        await harness.command("apply", market_spec(loop="one"))
        await harness.command("apply", market_spec(loop="two"))

        with pytest.raises(TooManyLoops, match="everloop delete"):
            await harness.command("apply", market_spec(loop="three"))
        changed = await harness.command("apply", revised(1, "two"))
        await harness.command("delete", "one", "room for another")
        then = await harness.command("apply", market_spec(loop="three"))

    assert (changed, then) == (["loop_applied"], ["loop_applied"])


async def test_names_of_deleted_loops_are_bounded_too(tmp_path: Path) -> None:
    async with Database(database_url(tmp_path), MIGRATIONS, schema="registry") as database:
        harness = HandlerHarness(database, Quota(loops=1))
        for n in range(10):
            await harness.command("apply", market_spec(loop=f"l{n}"))
            await harness.command("delete", f"l{n}", "next")

        with pytest.raises(TooManyLoops, match="names"):
            await harness.command("apply", market_spec(loop="one-more"))
        again = await harness.command("apply", market_spec(loop="l3"))

    assert again == ["loop_applied"]


async def test_a_flood_of_revisions_is_429_and_a_rollback_is_still_accepted(tmp_path: Path) -> None:
    async with Database(database_url(tmp_path), MIGRATIONS, schema="registry") as database:
        harness = HandlerHarness(database, Quota(changes_per_hour=5))
        for n in range(5):
            await harness.command("apply", revised(n))

        with pytest.raises(TooManyChanges) as refused:
            await harness.command("apply", revised(99))
        same = await harness.command("apply", revised(4))
        await promoted(harness)
        back = await harness.command("rollback", "market", "complaints")
        harness.clock.now += timedelta(hours=1)
        later = await harness.command("apply", revised(99))

    assert (refused.value.http_status, refused.value.retry_after) == (429, 600.0)
    assert (same, back, later) == ([], ["model_rolled_back"], ["loop_applied"])


async def put(client: httpx.AsyncClient, text: str = LOOP_FILE) -> httpx.Response:
    """Apply a loop file."""
    return await client.put("/market", content=text, headers=YAML)


@pytest.mark.app
async def test_http_deletes_a_loop_and_its_log_stays(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await put(client)
        decided_at = (await client.get("/market")).json()["decided"]

        gone = await client.delete("/market", params={"reason": "over"}, headers=JSON)
        again = await client.delete("/market", headers=JSON)
        now, there = await client.get("/market"), (await client.get(str(client.base_url).rstrip("/"))).json()["loops"]
        deleted = (await client.get(str(client.base_url).rstrip("/"), params={"deleted": True})).json()["loops"]
        history = (await client.get("/market/history")).json()["decisions"]
        before = await client.get("/market", params={"as_of": decided_at})
        never = await client.delete("/nobody", headers=JSON)
        new = await put(client)

    assert (gone.status_code, again.status_code, now.status_code, never.status_code) == (200, 200, 404, 404)
    assert gone.json() == again.json()
    assert "was deleted" in now.json()["detail"]
    assert (there, [x["loop"] for x in deleted], before.json()["revision"]) == ([], ["market"], 1)
    assert [d["type"] for d in history] == ["registry.loop_applied.v1", "registry.loop_deleted.v1"]
    assert (new.status_code, new.json()["revision"]) == (201, 2)
    states = [e.data.deleted for e in broker.events(LoopState.topic)]
    assert states == [False, True, False]


@pytest.mark.app
async def test_a_rebuilt_database_knows_the_same_loops_and_deletions(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path / "one") as client:
        await put(client)
        await client.delete("/market", headers=JSON)
        await put(client, LOOP_FILE.replace("task: binary", "task: regression"))
        await client.put("/other", content=LOOP_FILE.replace("market", "other"), headers=YAML)
        await client.delete("/other", headers=JSON)
    async with Database(database_url(tmp_path / "one"), MIGRATIONS, schema="registry") as database:
        first = await SqlLoopReader(database).dump()

    async with registry(broker, tmp_path / "two") as client:
        there = [x["loop"] for x in (await client.get(str(client.base_url).rstrip("/"))).json()["loops"]]
    async with Database(database_url(tmp_path / "two"), MIGRATIONS, schema="registry") as database:
        second = await SqlLoopReader(database).dump()

    assert there == ["market"]
    assert first == second
    decided = [e for e in broker.events(Decided.topic) if isinstance(e, Decided) and e.loop == "market"]
    assert [e.sequence for e in decided] == [0, 1, 2]
