"""Serving over the memory broker: how new versions and canaries take over, and which artifacts are refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import pytest

from everloop_schemas.serving import VersionState

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app


async def test_a_promoted_version_is_swapped_in_under_load_without_a_failed_request(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    await serving.start()
    answers: list[Any] = []
    done = asyncio.Event()

    async def load() -> None:
        while not done.is_set():
            answers.append(await serving.predict(price=0.9))
            await asyncio.sleep(0)  # the test's own transport never yields

    answers.append(await serving.predict(price=0.9))
    await serving.publish(serving.state(serving.version("logistic-0@0")))
    await serving.until(lambda: ("logistic-0@0", "ready") in serving.version_states(), deadline_s=30)
    users = [asyncio.create_task(load()) for _ in range(4)]
    for n in range(3):
        await serving.publish(serving.state(serving.version(f"logistic-0@{n}")))
        await _until_answered_by(serving, answers, f"logistic-0@{n}")
    done.set()
    await asyncio.gather(*users)

    versions = [a.json()["version"] for a in answers]
    assert {a.status_code for a in answers} == {200}
    assert sorted(set(versions)) == ["0", "logistic-0@0", "logistic-0@1", "logistic-0@2"]
    await serving.until(lambda: ("logistic-0@2", "ready") in serving.version_states())


async def test_an_artifact_with_another_sha256_is_refused_and_the_old_version_keeps_serving(
    serving: RunningServing,
) -> None:
    good = serving.version("logistic-0@1")
    await serving.publish(serving.state(good))
    await serving.start()
    await serving.until(lambda: ("logistic-0@1", "ready") in serving.version_states())
    bad = serving.version("logistic-0@2").model_copy(update={"sha256": "0" * 64})

    await serving.publish(serving.state(bad))

    await serving.until(lambda: ("logistic-0@2", "failed") in serving.version_states())
    assert (await serving.predict()).json()["version"] == "logistic-0@1"


async def test_a_champion_whose_artifact_was_changed_is_not_loaded_and_what_serves_is_reported(
    serving: RunningServing,
) -> None:
    version = serving.version("logistic-0@1")
    path = Path(unquote(urlparse(version.uri or "").path))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    await serving.publish(serving.state(version))

    await serving.start()
    await serving.until(lambda: ("logistic-0@1", "failed") in serving.version_states())

    [report] = [e.data for e in serving.broker.events(VersionState.topic) if isinstance(e, VersionState)]
    assert (report.state, report.serving) == ("failed", "0")
    assert "sha256" in (report.reason or "")
    assert (await serving.predict()).json()["version"] == "0"


async def test_a_uri_that_leads_elsewhere_is_not_followed(serving: RunningServing) -> None:
    version = serving.version("logistic-0@1").model_copy(update={"uri": "data:;base64,gAVOLg=="})
    await serving.publish(serving.state(version))

    await serving.start()

    await serving.until(lambda: ("logistic-0@1", "failed") in serving.version_states())
    assert (await serving.predict()).json()["version"] == "0"


async def test_a_store_that_is_away_for_a_moment_costs_only_time(serving: RunningServing) -> None:
    version = serving.version("logistic-0@1")
    path = Path(unquote(urlparse(version.uri or "").path))
    hidden = path.rename(path.with_suffix(".away"))
    await serving.publish(serving.state(version), serving.features("a", price=0.9))

    await serving.start(load_attempts=1000)
    hidden.rename(path)

    [prediction] = await serving.until(serving.predictions)
    served = prediction.data
    assert (served.version, served.role, served.prediction) == ("logistic-0@1", "champion", True)


async def test_a_canary_gets_its_share_and_the_other_version_predicts_in_shadow(serving: RunningServing) -> None:
    champion, candidate = serving.version("logistic-0@1"), serving.version("logistic-9@10")
    await serving.publish(serving.state(champion, candidate=candidate, stage="canary", share=0.25))
    await serving.start()
    await serving.until(lambda: len(serving.version_states()) == 2)

    await serving.publish(*(serving.features(f"p{i}") for i in range(400)))

    predictions = await serving.until(lambda: len(serving.predictions()) == 400 and serving.predictions())
    canary = [p for p in predictions if p.data.role == "canary"]
    assert 60 < len(canary) < 140
    assert {(p.data.version, p.data.propensity, p.data.shadows[0].version) for p in predictions} == {
        ("logistic-9@10", 0.25, "logistic-0@1"),
        ("logistic-0@1", 0.75, "logistic-9@10"),
    }


async def _until_answered_by(serving: RunningServing, answers: list[Any], version: str) -> None:
    await serving.until(lambda: answers and answers[-1].json()["version"] == version, deadline_s=40)
