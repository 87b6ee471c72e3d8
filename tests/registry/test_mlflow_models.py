"""Loops and their versions as registered models and model versions, asked by MLflow's own client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.registry.mlflow_api import MlflowHarness, mlflow_registry
from tests.registry.registry_harness import LOOP_FILE, apply_file, run_to_canary

from everloop_schemas.tracking import RunLogged
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("no_retries"),
]
OTHER_FILE = LOOP_FILE.replace("loop: market", "loop: other")


async def with_canary(registry: MlflowHarness, folder: Path) -> None:
    """Two loops; `market` has a champion, a-0@200, and a candidate, b-0@400."""
    await apply_file(registry.http)
    await run_to_canary(registry.broker, folder)
    await apply_file(registry.http, OTHER_FILE, "other")


def version_names(versions: Any) -> list[tuple[str, str]]:
    """Number and Everloop's name of each version."""
    return [(v.version, v.tags["everloop.version"]) for v in versions]


async def test_loops_are_registered_models_with_aliases(tmp_path: Path) -> None:
    async with mlflow_registry(MemoryBroker(), tmp_path) as registry:
        await with_canary(registry, tmp_path)

        every = await registry.call("search_registered_models")
        one = await registry.call("search_registered_models", filter_string="name LIKE 'mar%'", max_results=1)
        none = await registry.call("search_registered_models", filter_string="name LIKE 'MAR%'")
        any_case = await registry.call("search_registered_models", filter_string="name ILIKE 'MAR%'")
        first = await registry.call("search_registered_models", max_results=1, order_by=["name DESC"])
        rest = await registry.call(
            "search_registered_models", max_results=1, order_by=["name DESC"], page_token=first.token
        )
        market = await registry.call("get_registered_model", "market")
        champion = await registry.call("get_model_version_by_alias", "market", "champion")
        challenger = await registry.call("get_model_version_by_alias", "market", "challenger")
        latest = await registry.call("get_latest_versions", "market")

    assert [m.name for m in every] == ["market", "other"]
    assert ([m.name for m in one], one.token) == (["market"], "")
    assert [m.name for m in none] == []
    assert [m.name for m in any_case] == ["market"]
    assert ([m.name for m in first], [m.name for m in rest], rest.token) == (["other"], ["market"], "")
    assert market.aliases == {"champion": "1", "challenger": "2", "candidate": "2"}
    assert (champion.tags["everloop.version"], champion.status) == ("a-0@200", "READY")
    assert (challenger.tags["everloop.version"], challenger.aliases) == ("b-0@400", ["challenger", "candidate"])
    assert version_names(latest) == [("2", "b-0@400")]


async def test_versions_are_found_by_name_tag_run_and_number(tmp_path: Path) -> None:
    async with mlflow_registry(MemoryBroker(), tmp_path) as registry:
        await with_canary(registry, tmp_path)
        search = "search_model_versions"

        every = await registry.call(search, "name='market'", order_by=["version_number ASC"])
        tagged = await registry.call(search, "name='market' and tags.`everloop.version` = 'a-0@200'")
        of_run = await registry.call(search, f"run_id = '{every[1].run_id}'")
        numbered = await registry.call(search, "name = 'market' and version_number > 1")
        first = await registry.call(search, max_results=1)
        rest = await registry.call(search, max_results=1, page_token=first.token)
        one = await registry.call("get_model_version", "market", "2")
        wrong = await registry.refused(search, "colour = 'red'")
        token = await registry.refused(search, page_token="anything")

    assert version_names(every) == [("1", "a-0@200"), ("2", "b-0@400")]
    assert version_names(tagged) == [("1", "a-0@200")]
    assert version_names(of_run) == version_names(numbered) == [("2", "b-0@400")]
    assert version_names([*first, *rest]) == [("2", "b-0@400"), ("1", "a-0@200")]
    assert (rest.token, one.run_id) == ("", every[1].run_id)
    assert wrong[0] == token[0] == "INVALID_PARAMETER_VALUE"
    assert "'colour' cannot be searched by" in wrong[1]


async def test_what_does_not_exist_is_said_so(tmp_path: Path) -> None:
    async with mlflow_registry(MemoryBroker(), tmp_path) as registry:
        await apply_file(registry.http)

        model = await registry.refused("get_registered_model", "nowhere")
        version = await registry.refused("get_model_version", "market", "99999")
        alias = await registry.refused("get_model_version_by_alias", "market", "nobody")
        created = await registry.refused("create_registered_model", "nowhere")
        exists = await registry.refused("create_registered_model", "market")

    assert {model[0], version[0], alias[0], created[0]} == {"RESOURCE_DOES_NOT_EXIST"}
    assert "everloop apply" in created[1]
    assert exists[0] == "RESOURCE_ALREADY_EXISTS"


async def test_nothing_is_promoted_renamed_or_deleted_by_hand(tmp_path: Path) -> None:
    async with mlflow_registry(MemoryBroker(), tmp_path) as registry:
        await with_canary(registry, tmp_path)

        refused = [
            await registry.refused("set_registered_model_alias", "market", "champion", "2"),
            await registry.refused("delete_registered_model_alias", "market", "champion"),
            await registry.refused("transition_model_version_stage", "market", "2", "Production"),
            await registry.refused("delete_model_version", "market", "2"),
            await registry.refused("delete_registered_model", "market"),
            await registry.refused("rename_registered_model", "market", "bazaar"),
            await registry.refused("set_model_version_tag", "market", "1", "everloop.version", "mine"),
        ]
        champion = await registry.call("get_model_version_by_alias", "market", "champion")

    assert {code for code, _ in refused} == {"PERMISSION_DENIED"}
    assert all("promoted by the gate and a rollout" in text for _, text in refused[:3])
    assert champion.version == "1"


async def test_descriptions_and_tags_are_kept_and_published(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with mlflow_registry(broker, tmp_path) as registry:
        await with_canary(registry, tmp_path)

        await registry.call("set_registered_model_tag", "market", "team", "risk")
        await registry.call("update_registered_model", "market", "what people buy")
        await registry.call("set_model_version_tag", "market", "1", "checked", "yes")
        await registry.call("set_model_version_tag", "market", "1", "passing", "thought")
        await registry.call("delete_model_version_tag", "market", "1", "passing")
        await registry.call("update_model_version", "market", "1", "the first")
        model = await registry.call("get_registered_model", "market")
        [found] = await registry.call("search_model_versions", "tags.checked = 'yes'")
        [of_team] = await registry.call("search_registered_models", "tags.team = 'risk'")
        unknown = await registry.refused("set_model_version_tag", "market", "77", "a", "b")

    assert (model.description, model.tags, of_team.name) == ("what people buy", {"team": "risk"}, "market")
    assert (found.description, found.tags["checked"], found.tags.get("passing")) == ("the first", "yes", None)
    assert unknown[0] == "RESOURCE_DOES_NOT_EXIST"
    logged = [e for e in broker.events(RunLogged.topic) if isinstance(e, RunLogged)]
    assert [e.sequence for e in logged] == list(range(len(logged)))
    assert len([e for e in logged if e.data.note is not None]) == 6


async def test_numbers_go_on_after_a_loop_was_deleted_and_applied_again(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with mlflow_registry(broker, tmp_path) as registry:
        await with_canary(registry, tmp_path)
        await registry.http.delete("/market")
        gone = await registry.refused("get_registered_model", "market")
        await apply_file(registry.http)

        listed = await registry.call("search_model_versions", "name = 'market'")
        earlier = await registry.call("get_model_version", "market", "1")
        experiment = await registry.call("get_experiment_by_name", "market")

    assert gone[0] == "RESOURCE_DOES_NOT_EXIST"
    assert list(listed) == []
    assert (earlier.tags["everloop.version"], earlier.aliases) == ("a-0@200", [])
    assert experiment.lifecycle_stage == "active"
