"""The clients' methods about loops: what is asked of the real services, and which errors they raise."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.everloop.served_services import served
from tests.everloop.test_approval_commands import come_to_approval

from everloop import (
    AsyncEverloop,
    Everloop,
    EverloopHTTPError,
    LoopFileInvalid,
    LoopNameInvalid,
    LoopNotUsedYet,
)
from everloop.async_loop_methods import AsyncLoopMethods
from everloop.endpoints import Endpoints
from everloop.local.ports import free_port
from everloop.loop_methods import LoopMethods

if TYPE_CHECKING:
    from tests.everloop.conftest import Served

pytestmark = [pytest.mark.app, pytest.mark.timeout(120)]
FILE = "loop: market\ntask: binary\nschema: {price: {type: number}}\n"
SAID = ("approve", "reject", "promote", "rollback", "resume", "retrain", "delete")
"""What changes a loop; the other methods ask."""


def test_a_candidate_is_approved_promoted_rolled_back_and_the_loop_resumed_and_deleted(tmp_path: Path) -> None:
    with served(tmp_path, "registry") as services, Everloop(str(tmp_path)) as everloop:
        come_to_approval(services)
        approved = everloop.approve("market", reason="fine", version="a-0@200")
        promoted = everloop.promote("market", reason="seen enough")
        with pytest.raises(EverloopHTTPError) as late:
            everloop.reject("market", reason="too late")
        rolled_back = everloop.rollback("market", reason="complaints", to="0")
        resumed = everloop.resume("market")
        decisions = everloop.history("market")
        deleted = everloop.delete("market", reason="closed")

    assert (approved["stage"], approved["approval"]) == ("canary", None)
    assert (promoted["champion"]["version"], promoted["candidate"]) == ("a-0@200", None)
    assert (late.value.status, late.value.code) == (409, "conflict")
    assert (rolled_back["rolled_back"], rolled_back["champion"]["version"]) == ("a-0@200", "0")
    assert (rolled_back["pinned"], resumed["pinned"]) == (True, False)
    assert [decision["sequence"] for decision in decisions] == list(range(len(decisions)))
    assert decisions[-1]["data"]["reason"] == "decided by a client"
    assert deleted["loop"] == "market"


async def test_both_clients_answer_alike_about_a_loop_and_its_past(tmp_path: Path) -> None:
    with served(tmp_path, "registry", "training", "monitoring") as services:
        await asyncio.to_thread(come_to_approval, services)
        before = datetime(2020, 1, 1, tzinfo=UTC)

        def ask() -> list[Any]:
            with Everloop(str(tmp_path)) as one:
                known = [one.status("market"), one.runs("market"), one.versions("market"), one.history("market")]
                return [*known, one.alerts("market"), one.alerts("market", all=True), one.drifts("market", limit=5)]

        sync = await asyncio.to_thread(ask)
        async with AsyncEverloop(str(tmp_path)) as same:
            known = [await same.status("market"), await same.runs("market"), await same.versions("market")]
            known += [await same.history("market"), await same.alerts("market"), await same.alerts("market", all=True)]
            known += [await same.drifts("market", limit=5)]
            waiting = await same.retrain("market", reason="try", key="monday")
            with pytest.raises(EverloopHTTPError) as too_early:
                await same.history("market", as_of=before)

    assert sync == known
    assert [version["version"] for version in sync[2]] == ["a-0@200"]
    assert (sync[0]["champion"]["version"], sync[0]["rollout"]["approval"]["step"]) == ("0", "before_canary")
    assert (waiting["run"], waiting["state"]) == (None, "waiting")
    assert too_early.value.status == 404


def test_a_run_that_is_asked_for_is_one_run_however_often_its_answer_is_lost(installation: Served) -> None:
    installation.faults += [0, 503]

    with Everloop() as everloop, pytest.raises(EverloopHTTPError):
        everloop.retrain("market", reason="new prices")  # nobody answers this path here; what counts is what was sent

    [(path, body)] = installation.seen
    assert path == "/v1/loops/market/runs"
    assert json.loads(body)["reason"] == "new prices"
    assert len(json.loads(body)["key"]) == 32


@pytest.mark.parametrize("given", [FILE, json.loads('{"loop": "market", "task": "binary", "schema": {}}'), Path("f")])
async def test_a_loop_file_is_applied_as_text_as_a_path_or_as_what_is_in_it(installation: Served, given: Any) -> None:
    (installation.folder / "f").write_text(FILE)
    file = installation.folder / given if isinstance(given, Path) else given
    with Everloop() as everloop:
        applied = everloop.apply(file)
    async with AsyncEverloop() as same:
        again = await same.apply(file)

    assert (applied.loop, applied.revision, applied.change) == ("market", 3, "unchanged")
    assert again == applied
    assert [path for path, _ in installation.seen] == ["/v1/loops/market"] * 2


async def test_a_revision_that_a_service_does_not_use_is_said_with_the_service(installation: Served) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with Everloop(feature=nobody, serving=nobody) as everloop, pytest.raises(LoopNotUsedYet) as late:
        everloop.apply(FILE, within=0.2)
    async with AsyncEverloop(serving=nobody) as same:
        with pytest.raises(LoopNotUsedYet) as late_too:
            await same.apply(FILE, within=0.2)

    assert (late.value.services, late.value.revision) == (("feature", "serving"), 3)
    assert late_too.value.services == ("serving",)
    assert "feature and serving did not use it within 0.2 s" in str(late.value)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("loops/churn.yaml", LoopFileInvalid, "the path of a file is given as pathlib.Path"),
        (Path("nowhere.yaml"), LoopFileInvalid, "nowhere.yaml cannot be read: No such file or directory"),
        ("task: binary\n", LoopFileInvalid, "loop: is missing in the loop file"),
        ({"task": "binary"}, LoopFileInvalid, "loop: is missing in the loop file"),
        ("loop: Big Loop\n", LoopNameInvalid, "loop: 'Big Loop'"),
        ({"loop": 7}, LoopNameInvalid, "loop: '7'"),
    ],
)
def test_what_is_no_loop_file_is_refused_before_anything_is_sent(given: Any, error: type, message: str) -> None:
    with Everloop(registry="http://127.0.0.1:1", retry_for=0) as everloop, pytest.raises(error) as refused:
        everloop.apply(given)

    assert message in str(refused.value)


def test_addresses_and_the_token_that_are_given_come_before_the_environment_s(
    installation: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLOOP_REGISTRY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("EVERLOOP_TOKEN", "of-the-environment")
    with Everloop(registry=installation.url, token="given") as everloop:
        past = everloop.history("market", as_of="2024-05-01T12:00:00Z")
    sent = Endpoints(given={"registry": installation.url}, token="given").header(installation.url)

    assert past == [{"as_of": "2024-05-01T12:00:00Z"}]
    assert sent == {"authorization": "Bearer given"}


def test_the_async_client_has_every_method_of_the_sync_one() -> None:
    public = {name for name in vars(LoopMethods) if not name.startswith("_")} - {"close", "request"}

    assert public == {name for name in vars(AsyncLoopMethods) if not name.startswith("_")} - {"aclose", "request"}
    assert public >= {*SAID, "apply", "status", "runs", "versions", "history", "alerts", "drifts"}
