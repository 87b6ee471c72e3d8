"""Loops belong to the team of who created them, and teams have quotas of loops and of what their features cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.access import add_key, add_team, bearer
from tests.builders.loops import loop_spec
from tests.databases import database_url
from tests.registry.registry_harness import LOOP_FILE, YAML, HandlerHarness, dump_of, market_spec, registry_on

from everloop_registry.domain.team_use import TeamUse, feature_cost
from everloop_registry.errors import TeamQuotaReached
from everloop_registry.settings import RegistrySettings
from everloop_schemas.access.routes import RULES
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import Decided, LoopState
from everloop_shared.access.teams import TeamQuota
from everloop_shared.clock import system_clock
from everloop_shared.commands import Actor
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = pytest.mark.usefixtures("databases")
ADA, BOB = Actor("ada", "key", "evl_1", team="risk"), Actor("bob", "key", "evl_2", team="shop")


def wide_spec(windows: int, loop: str = "market") -> LoopSpec:
    """A loop with so many means over the last 1,000 prices, which cost 31 µs each."""
    means = [{"name": f"m{n}", "mean": "price", "over": "1000 events"} for n in range(windows)]
    return loop_spec(loop=loop, schema={"price": {"type": "number"}}, features=means)


async def with_quota(harness: HandlerHarness, **quota: Any) -> None:
    """Every team has this quota from now on."""
    harness.commands.team_quotas = lambda team: TeamQuota(**quota)


async def test_a_loop_belongs_to_the_team_of_who_created_it_whoever_changes_it(harness: HandlerHarness) -> None:
    await harness.command("apply", market_spec(loop="mine"), actor=ADA)
    await harness.command("apply", wide_spec(2, "mine"), actor=BOB)
    created, changed = harness.decisions[-2:]
    uses = await harness.reader.team_uses()
    await harness.command("delete", "mine", "over", actor=ADA)
    await harness.command("apply", market_spec(loop="mine"), actor=BOB)

    state = await harness.reader.loop("mine")
    assert (created.data.team, changed.data.team, changed.data.feature_cost) == ("risk", "risk", 62.0)
    assert uses == {"risk": TeamUse(1, 62.0)}
    assert state is not None
    assert (state.team, state.state_event("").data.team) == ("shop", "shop"), "a new lifetime has a new owner"


async def test_who_has_no_team_leaves_records_as_they_were_and_is_counted_by_no_team(harness: HandlerHarness) -> None:
    await with_quota(harness, loops=0, feature_cost=0)

    await harness.command("apply", wide_spec(3, "free"))

    assert set(json.loads(harness.decisions[-1].encode())["data"]) == {"spec"}
    assert await harness.reader.team_uses() == {}


async def test_one_loop_more_than_a_team_may_have_is_refused_and_other_teams_go_on(harness: HandlerHarness) -> None:
    await with_quota(harness, loops=2)
    for n in range(2):
        await harness.command("apply", market_spec(loop=f"risk-{n}"), actor=ADA)

    with pytest.raises(TeamQuotaReached) as refused:
        await harness.command("apply", market_spec(loop="risk-2"), actor=ADA)
    changed = await harness.command("apply", wide_spec(1, "risk-1"), actor=ADA)
    other = await harness.command("apply", market_spec(loop="shop-0"), actor=BOB)
    await harness.command("delete", "risk-0", "room for another", actor=ADA)
    then = await harness.command("apply", market_spec(loop="risk-2"), actor=ADA)

    assert (changed, other, then) == (["loop_applied"],) * 3
    assert refused.value.http_status == 409
    for named in ("team risk", "2 loops of 2", "quota loops", "everloop delete LOOP", "EVERLOOP_AUTH_KEYS"):
        assert named in refused.value.detail


async def test_features_of_all_loops_of_a_team_together_cost_no_more_than_its_quota(harness: HandlerHarness) -> None:
    await with_quota(harness, feature_cost=100)
    await harness.command("apply", wide_spec(2, "one"), actor=ADA)

    with pytest.raises(TeamQuotaReached) as refused:
        await harness.command("apply", wide_spec(2, "two"), actor=ADA)
    with pytest.raises(TeamQuotaReached, match="adds 62"):
        await harness.command("apply", wide_spec(4, "one"), actor=BOB)
    fits = await harness.command("apply", wide_spec(1, "two"), actor=ADA)
    await with_quota(harness, feature_cost=10)
    cheaper = await harness.command("apply", wide_spec(1, "one"), actor=ADA)

    assert (fits, cheaper) == (["loop_applied"], ["loop_applied"]), "cheaper is always allowed"
    for named in ("team risk", "62 of 100 µs", "quota feature_cost", "adds 62", "shorten windows"):
        assert named in refused.value.detail


def test_the_cost_of_features_is_counted_from_the_spec_alone() -> None:
    costs = [feature_cost(wide_spec(n)) for n in (1, 2, 5)]

    assert costs == [31.0, 62.0, 155.0], "1 µs a feature and 30 ns a value in its window"


def of_team(token: str) -> dict[str, str]:
    """Headers of a loop file that somebody applies."""
    return {**YAML, **bearer(token)}


@pytest.mark.app
async def test_quotas_of_the_key_file_hold_at_once_in_every_replica_and_after_a_rebuild(tmp_path: Path) -> None:
    file, broker = tmp_path / "keys.json", MemoryBroker()
    ada, bob = (
        add_key(file, name, "engineer", now=system_clock(), team=team) for name, team in (("ada", "risk"), ("bob", "x"))
    )
    viewer = add_key(file, "vic", "viewer", now=system_clock())
    add_team(file, "*", TeamQuota(loops=1))
    access: dict[str, Any] = {"auth": "on", "auth_keys": file}

    def settings(folder: str) -> RegistrySettings:
        data = tmp_path / folder
        return RegistrySettings(data=data, port=0, database_url=database_url(data), settle_s=0.0, **access)

    async with registry_on(broker.engine, settings("one")) as client:
        first = await client.put("/one", content=LOOP_FILE.replace("market", "one"), headers=of_team(ada))
        refused = await client.put("/two", content=LOOP_FILE.replace("market", "two"), headers=of_team(ada))
        add_team(file, "risk", TeamQuota(loops=3, feature_cost=5_000))
        second = await until_applied(client, "two", ada)
        seen = [await teams(client, token) for token in (ada, bob, viewer)]
    async with registry_on(broker.engine, settings("two")) as client:
        rebuilt = await teams(client, viewer)
        owner = (await client.get("/two", headers=bearer(viewer))).json()["team"]
    dumps = [await dump_of(database_url(tmp_path / folder)) for folder in ("one", "two")]

    assert (first.status_code, refused.status_code, second) == (201, 409, 201)
    assert refused.json()["code"] == "team_quota_reached"
    risk = {"loops": {"used": 2, "allowed": 3}, "feature_cost": {"used": 0.0, "allowed": 5_000}}
    own = {"loops": {"used": 0, "allowed": 1}, "feature_cost": {"used": 0, "allowed": None}}
    assert seen == [{"risk": risk}, {"risk": risk, "x": own}, {"risk": risk}]
    assert (rebuilt, owner, dumps[0]) == ({"risk": risk}, "risk", dumps[1])
    assert [e.data.team for e in broker.events(LoopState.topic)] == ["risk", "risk"]
    assert [e.data.team for e in broker.events(Decided.topic)] == ["risk", "risk"]


async def until_applied(client: httpx.AsyncClient, loop: str, token: str) -> int:
    """The status of a loop that is applied once the file of keys was read again, which takes a second at most."""
    for _ in range(200):
        answer = await client.put(f"/{loop}", content=LOOP_FILE.replace("market", loop), headers=of_team(token))
        if answer.status_code != 409:
            break
    return answer.status_code


async def teams(client: httpx.AsyncClient, token: str) -> dict[str, Any]:
    """What somebody sees of quotas."""
    answer = await client.get(str(client.base_url).replace("/v1/loops/", "/v1/quotas"), headers=bearer(token))
    return {found["team"]: found["quotas"] for found in answer.json()["teams"]}


def test_both_services_that_count_have_the_route() -> None:
    counted = {service for service, rules in RULES.items() for rule in rules if rule.action == "quotas.read"}

    assert counted == {"registry", "training"}
