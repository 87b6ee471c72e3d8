"""What the registry says that a loop file would do, and that saying it changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders.events import run_requested
from tests.registry.registry_harness import (
    LOOP_FILE,
    YAML,
    HandlerHarness,
    apply_file,
    decided_types,
    dump,
    market_spec,
    registry,
)

from everloop_registry.domain.spec_diff import LoopDiff
from everloop_registry.errors import TooManyChanges
from everloop_registry.handlers import Quota
from everloop_registry.handlers.diffs import DiffHandlers
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopState
from everloop_shared.commands import ANONYMOUS
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = pytest.mark.usefixtures("databases")


async def diff(harness: HandlerHarness, spec: LoopSpec) -> LoopDiff:
    """What the handlers say about a spec."""
    async with harness.unit:
        return await DiffHandlers(harness.commands).diff(spec, actor=ANONYMOUS)


async def ask(client: httpx.AsyncClient, text: str, loop: str = "market", **headers: str) -> httpx.Response:
    """Ask what a loop file would do."""
    return await client.post(f"/{loop}/diff", content=text, headers={**YAML, **headers})


@pytest.mark.app
async def test_a_diff_names_values_by_path_and_stores_and_publishes_nothing(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        new = (await ask(client, LOOP_FILE)).json()
        missing = await client.get("/market")
        await apply_file(client)
        before = await dump(tmp_path)
        same = (await ask(client, LOOP_FILE)).json()
        changed = (await ask(client, LOOP_FILE.replace("10%", "20%") + "gate: {confidence: 0.99}\n")).json()
        after = await dump(tmp_path)

    assert (new["change"], new["revision"], missing.status_code) == ("created", 0, 404)
    assert (same["change"], same["fields"], same["revision"]) == ("unchanged", [], 1)
    assert changed["fields"] == [
        {"path": "gate.confidence", "before": 0.95, "after": 0.99},
        {"path": "rollout.canary", "before": [0.1, 0.5], "after": [0.2, 0.5]},
    ]
    assert before == after
    assert (decided_types(broker), len(broker.events(LoopState.topic))) == (["loop_applied"], 1)


@pytest.mark.app
async def test_a_diff_is_refused_in_the_words_of_apply(tmp_path: Path) -> None:
    files = {
        LOOP_FILE + "models: [{preset: logistic, colour: 3}]\nmetrik: accuracy\n",
        LOOP_FILE + "features: [{name: x, expr: 'price - nothing'}]\n",
        LOOP_FILE.replace("binary", "regression"),
        LOOP_FILE.replace("market", "other"),
        LOOP_FILE + "rollout: {approvals: 2}\n",
        LOOP_FILE.replace("shadow:", "approval: before_canary, approvals: 2, shadow:"),
        "loop: [",
    }
    said: dict[str, tuple[Any, Any]] = {}
    async with registry(MemoryBroker(), tmp_path) as client:
        await apply_file(client)
        for text in sorted(files):
            told, refused = await ask(client, text), await apply_file(client, text)
            said[text] = told.json() | {"request_id": ""}, refused.json() | {"request_id": ""}
        kind = await client.post("/market/diff", content=LOOP_FILE, headers={"content-type": "text/csv"})

    assert [text for text, (told, refused) in said.items() if told != refused or told["status"] != 422] == []
    assert kind.status_code == 415


async def test_lines_of_a_lifetime_that_has_ended_are_not_the_loops(harness: HandlerHarness) -> None:
    await harness.handle(run_requested("logistic-0", trigger="initial"))
    known = await diff(harness, market_spec(metric="log_loss"))
    await harness.command("delete", "market", "over")
    new = await diff(harness, market_spec())
    await harness.command("apply", market_spec())

    again = await diff(harness, market_spec())

    assert [(each.line, each.state) for each in known.lines] == [("logistic-0", "kept")]
    assert (new.change, [(each.line, each.state) for each in new.lines]) == ("created", [(None, "new")])
    assert [(each.line, each.state) for each in again.lines] == [(None, "kept")]


async def test_a_change_beyond_the_quota_of_changes_is_refused_as_it_would_be(harness: HandlerHarness) -> None:
    harness.commands.quota = Quota(changes_per_hour=1)

    same = await diff(harness, market_spec())
    with pytest.raises(TooManyChanges):
        await diff(harness, market_spec(metric="log_loss"))

    assert same.change == "unchanged"
