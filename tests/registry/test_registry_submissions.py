"""Models that were trained elsewhere come in as ONNX files and challenge, or are refused with the fix."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders.events import challenge_updated
from tests.builders.onnx_models import linear, logistic_onnx
from tests.builders.running import until
from tests.registry.registry_harness import apply_file, count_handled, decided_types, publish, registry

from everloop_models.store import ArtifactStore, name_in
from everloop_registry.domain.decision_log import DecisionContext, DecisionLog
from everloop_registry.domain.submission import count_recent_submissions
from everloop_registry.domain.working_state import WorkingState
from everloop_registry.handlers import submissions
from everloop_schemas.registry import Decided, LoopState, VersionRegistered
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = pytest.mark.app
MODEL = logistic_onnx([1.0, -2.0])


@pytest.fixture
def broker() -> MemoryBroker:
    """A broker."""
    return MemoryBroker()


@pytest.fixture
async def client(broker: MemoryBroker, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A registry with the market loop."""
    async with registry(broker, tmp_path) as opened:
        await apply_file(opened)
        yield opened


async def submit(
    client: httpx.AsyncClient, data: bytes = MODEL, loop: str = "market", **manifest: Any
) -> httpx.Response:
    """Submit a model."""
    headers = {
        "content-type": "application/onnx",
        "everloop-manifest": json.dumps({"name": "forest", **manifest}),
    }
    return await client.post(f"/{loop}/versions", content=data, headers=headers)


async def test_a_submitted_model_is_a_version_that_challenges(
    client: httpx.AsyncClient, broker: MemoryBroker, tmp_path: Path
) -> None:
    await publish(broker, challenge_updated(0, {"0": [0.5] * 120}))
    await until(lambda: count_handled(broker, "training.challenge_updated.v1") == 1)

    answer = await submit(client, metrics={"auc": 0.91}, data_set="market@0..99#1")

    body = answer.json()
    assert (answer.status_code, body["version"], body["line"]) == (201, "forest-120@119", "forest-120")
    [registered] = [e for e in broker.events(Decided.topic) if isinstance(e, VersionRegistered)]
    model = registered.data.model
    assert (model.reason, model.offset, registered.actor) == ("submitted", 119, "anonymous")
    assert (model.manifest.metrics, model.manifest.trainer) == ({"auc": 0.91}, "forest")
    assert model.manifest.data_set is not None
    assert model.manifest.data_set.name == "market@0..99#1"
    assert (model.manifest.format, model.signature) == ("onnx", ("demand", "price"))
    stored = ArtifactStore((tmp_path / "artifacts").as_uri()).get(name_in(model.uri), model.size)
    assert len(stored) == body["size"]
    [*_, state] = [e for e in broker.events(LoopState.topic) if isinstance(e, LoopState)]
    [submission] = state.data.submissions
    assert (submission.version, submission.run, submission.artifact.sha256) == (
        model.version,
        model.run,
        body["sha256"],
    )


async def test_the_same_model_under_the_same_name_is_one_version_and_another_is_a_second(
    client: httpx.AsyncClient, broker: MemoryBroker
) -> None:
    answers = [await submit(client), await submit(client)]
    answers += [await submit(client, logistic_onnx([3.0, 1.0])), await submit(client, name="other")]

    assert [a.status_code for a in answers] == [201, 200, 201, 201]
    assert [a.json()["version"] for a in answers] == ["forest-1@0", "forest-1@0", "forest.2-1@0", "other-1@0"]
    assert decided_types(broker).count("version_registered") == 3


async def test_two_that_submit_at_the_same_time_get_two_versions(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(submit(client), submit(client, logistic_onnx([0.1, 0.2])), submit(client))

    assert sorted(a.status_code for a in answers) == [200, 201, 201]
    assert {a.json()["version"] for a in answers} == {"forest-1@0", "forest.2-1@0"}


@pytest.mark.parametrize(
    ("data", "manifest", "field", "says"),
    [
        (b"not a model", {}, "model", "not an ONNX file"),
        (logistic_onnx([1.0] * 5), {}, "model", "5"),
        (MODEL, {"features": ["price", "colour"]}, "model", "colour"),
        (linear(2).SerializeToString(), {}, "model", "Sigmoid"),
        (logistic_onnx([float("nan"), 1.0]), {}, "model", "nan"),
        (b"", {}, "body", "--data-binary"),
        (MODEL, {"name": "My Forest"}, "name", ""),
        (MODEL, {"metrics": {"auc": "high"}}, "metrics.auc", ""),
        (MODEL, {"data_set": "market from 0"}, "data_set", "LOOP@START..END#REVISION"),
        (MODEL, {"colour": "blue"}, "colour", ""),
    ],
)
async def test_what_cannot_be_served_is_422_naming_field_and_fix(
    client: httpx.AsyncClient, broker: MemoryBroker, data: bytes, manifest: dict[str, Any], field: str, says: str
) -> None:
    answer = await submit(client, data, **manifest)

    assert answer.status_code == 422
    assert field in {e["field"] for e in answer.json()["errors"]}
    assert says in answer.json()["detail"]
    assert "version_registered" not in decided_types(broker)


async def test_a_loop_that_nobody_applied_or_that_was_deleted_is_404_with_what_to_do(
    client: httpx.AsyncClient,
) -> None:
    unknown = await submit(client, loop="nobody")
    await client.delete("/market")
    deleted = await submit(client)

    assert [unknown.status_code, deleted.status_code] == [404, 404]
    assert "everloop apply" in unknown.json()["detail"]
    assert "was deleted" in deleted.json()["detail"]


async def test_a_model_of_an_earlier_lifetime_is_submitted_anew(client: httpx.AsyncClient) -> None:
    before = await submit(client)
    await client.delete("/market")
    await apply_file(client)

    after = await submit(client)

    assert (before.status_code, after.status_code) == (201, 201)
    assert before.json()["version"] != after.json()["version"]


async def test_a_manifest_that_is_missing_or_no_json_is_refused(client: httpx.AsyncClient) -> None:
    typed = {"content-type": "application/onnx"}
    missing = await client.post("/market/versions", content=MODEL, headers=typed)
    broken = await client.post("/market/versions", content=MODEL, headers={**typed, "everloop-manifest": "{"})
    other = await client.post("/market/versions", json={"name": "forest"}, headers={"content-type": "application/json"})

    assert [missing.status_code, broken.status_code, other.status_code] == [422, 422, 415]
    assert "application/onnx" in other.json()["detail"]


async def test_more_models_than_the_quota_are_429_and_one_that_is_registered_is_not(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit(client)
    monkeypatch.setattr(submissions, "count_recent_submissions", lambda log, period: 99 + len(log.working.submitted))
    refused, same = await submit(client, name="second"), await submit(client)

    assert [refused.status_code, same.status_code] == [429, 200]
    assert "EVERLOOP_REGISTRY_MAX_CHANGES_PER_HOUR" in refused.json()["detail"]


def test_only_the_models_of_the_last_hour_count() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    working = WorkingState(submitted=[now - timedelta(minutes=m) for m in (90, 59, 1)])
    decision_log = DecisionLog("market", DecisionContext(None, None, now), working=working)

    assert count_recent_submissions(decision_log, timedelta(hours=1)) == 2


async def test_other_requests_and_events_are_handled_while_a_model_is_tried(
    client: httpx.AsyncClient, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    check = submissions.SubmissionHandlers._check  # noqa: SLF001

    async def slow(self: Any, loop: str, submitted: Any) -> Any:
        entered.set()
        await leave.wait()
        return await check(self, loop, submitted)

    monkeypatch.setattr(submissions.SubmissionHandlers, "_check", slow)
    waiting = asyncio.ensure_future(submit(client))
    await entered.wait()
    await publish(broker, challenge_updated(0, {"0": [0.5] * 10}))
    await until(lambda: count_handled(broker, "training.challenge_updated.v1") == 1)
    rollback = await client.post(
        "/market/resume", json={"reason": "none"}, headers={"content-type": "application/json"}
    )
    leave.set()

    assert rollback.status_code == 200
    assert (await waiting).json()["version"] == "forest-10@9"


async def test_a_registry_that_lost_its_database_has_the_submissions_again(
    broker: MemoryBroker, tmp_path: Path
) -> None:
    async with registry(broker, tmp_path / "a") as client:
        await apply_file(client)
        first = await submit(client)
    async with registry(broker, tmp_path / "b") as client:
        again = await submit(client)

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["version"] == first.json()["version"]
