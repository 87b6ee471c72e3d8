"""Versions in memory: which are loaded, which serve meanwhile, which are reported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.tasks import cancel

from everloop_features import FeaturePlan
from everloop_models import ArtifactUnavailable, ModelPrediction
from everloop_schemas.envelope import Fields, utc_time
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion, LoopState
from everloop_schemas.serving import VersionState
from everloop_serving.adapters.loaded_loops import LoadedLoops
from everloop_serving.adapters.version_loads import LoadRetries, VersionLoads
from everloop_serving.domain.label_counts import LabelCountsByLoop
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.errors import Superseded

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing


@dataclass
class Loaded:
    """A version that came from memory."""

    version: str

    def predict(self, features: Fields) -> ModelPrediction:
        """Yes."""
        return ModelPrediction(True, None)

    def explain(self, features: Fields, prediction: ModelPrediction, seed: str, seconds: float) -> None:
        """Nothing is explained here."""


class MemoryLoader:
    """Loads versions that are not `away`, and records the calls."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.calls: list[str] = []
        self.kept: set[str] = set()
        self.free = asyncio.Event()
        self.free.set()

    async def load(
        self, version: LiveVersion, spec: LoopSpec, plan: FeaturePlan, is_wanted: Callable[[], bool]
    ) -> Loaded:
        """The version, if it is wanted once its turn comes."""
        await self.free.wait()
        if not is_wanted():
            raise Superseded(version.version)
        self.calls.append(version.version)
        if version.version in self.away:
            raise ArtifactUnavailable("away")
        return Loaded(version.version)

    def delete_copies_except(self, sha256s: set[str]) -> None:
        """Record what is to be kept."""
        self.kept = sha256s


class NoMetrics:
    """Counts nothing."""

    def observe_load(self, loop: str, seconds: float) -> None:
        """Nothing."""

    def count_load_failure(self, loop: str) -> None:
        """Nothing."""

    def __init__(self) -> None:
        self.missing: dict[str, bool] = {}

    def show_champion(self, loop: str, missing: bool) -> None:
        """Remember it."""
        self.missing[loop] = missing

    def forget_champion(self, loop: str) -> None:
        """Forget it."""
        del self.missing[loop]


class LoopsHarness:
    """Loaded loops, their loader, and what they reported."""

    def __init__(self) -> None:
        self.loader = MemoryLoader()
        self.reports: list[VersionState] = []
        self.metrics = NoMetrics()
        loads = VersionLoads(self.loader, self.metrics, LoadRetries(3, 0.0))
        self.loops = LoadedLoops(
            loads, LabelCountsByLoop(), self.reports.append, self.metrics, instance="one", clock=lambda: utc_time(0)
        )

    async def apply(self, state: LoopState) -> ServedLoop:
        """The loop once a state's versions are loaded."""
        self.loops.apply(state)
        await self.loops.wait_loaded("market", 5)
        served = self.loops.get("market")
        assert served is not None
        return served

    def reported(self) -> list[tuple[str, str]]:
        """The reports: (version, state)."""
        return [(r.data.version, r.data.state) for r in self.reports]


@pytest.fixture
async def harness() -> AsyncIterator[LoopsHarness]:
    """Loaded loops without versions yet."""
    built = LoopsHarness()
    yield built
    await built.loops.close()


def v(name: str) -> LiveVersion:
    """A version with an artifact somewhere."""
    return LiveVersion(version=name, uri=f"memory://{name}", sha256=name, since=utc_time(0))


async def test_a_refresh_is_served_only_once_it_is_loaded_and_the_old_one_until_then(
    harness: LoopsHarness, serving: RunningServing
) -> None:
    await harness.apply(serving.state(v("a-0@1"), candidate=v("b-5@1"), stage="canary", share=0.25))

    harness.loops.apply(serving.state(v("a-0@2"), candidate=v("b-5@2"), stage="canary", share=0.5))
    meanwhile = harness.loops.get("market")
    await harness.loops.wait_loaded("market", 5)
    after = harness.loops.get("market")

    assert [_named(live) for live in (meanwhile, after)] == [("a-0@1", "b-5@1", 0.5), ("a-0@2", "b-5@2", 0.5)]
    assert harness.reported() == [("a-0@1", "ready"), ("b-5@1", "ready"), ("a-0@2", "ready"), ("b-5@2", "ready")]


async def test_a_candidate_that_is_not_here_gets_no_traffic(harness: LoopsHarness, serving: RunningServing) -> None:
    harness.loader.away = {"b-5@1"}

    live = await harness.apply(serving.state(v("a-0@1"), candidate=v("b-5@1"), stage="canary", share=0.25))

    assert _named(live) == ("a-0@1", None, 0.0)
    assert harness.reported() == [("a-0@1", "ready"), ("b-5@1", "failed")]
    assert harness.loader.calls.count("b-5@1") == 3


async def test_the_stream_waits_for_a_first_champion_but_not_for_one_that_failed(
    harness: LoopsHarness, serving: RunningServing
) -> None:
    harness.loader.away = {"a-0@1"}
    state = serving.state(v("a-0@1"))

    harness.loops.apply(state)
    first = harness.loops.get("market")
    await harness.loops.wait_loaded("market", 5)
    given_up = harness.loops.get("market")

    assert first is not None
    assert given_up is not None
    assert (first.loading, given_up.loading, given_up.champion.version) == (True, False, "0")


async def test_metrics_say_where_another_version_answers_in_place_of_the_champion(
    harness: LoopsHarness, serving: RunningServing
) -> None:
    harness.loader.away = {"b-5@1"}
    await harness.apply(serving.state(v("a-0@1")))
    loaded = dict(harness.metrics.missing)

    await harness.apply(serving.state(v("b-5@1")))
    missing = dict(harness.metrics.missing)
    harness.loops.apply(serving.state(v("b-5@1"), deleted=True))

    assert (loaded, missing) == ({"market": False}, {"market": True})
    assert harness.metrics.missing == {}


async def test_a_version_that_failed_is_tried_again_when_the_store_is_back(
    harness: LoopsHarness, serving: RunningServing
) -> None:
    harness.loader.away = {"a-0@1"}
    await harness.apply(serving.state(v("a-0@1")))
    harness.loader.away = set()

    again = asyncio.create_task(harness.loops.retry_failed(0.0))
    await serving.until(lambda: _named(harness.loops.get("market"))[0] == "a-0@1")
    await cancel(again)

    assert harness.reported() == [("a-0@1", "failed"), ("a-0@1", "ready")]


async def test_a_version_that_is_not_live_any_more_when_its_turn_comes_is_not_loaded(
    harness: LoopsHarness, serving: RunningServing
) -> None:
    harness.loader.free.clear()
    for n in range(1, 5):
        harness.loops.apply(serving.state(v(f"a-0@{n}")))
    await asyncio.sleep(0)
    harness.loader.free.set()

    await harness.loops.wait_loaded("market", 5)

    assert harness.loader.calls == ["a-0@4"]
    assert harness.reported() == [("a-0@4", "ready")]


async def test_a_version_is_dropped_once_no_state_names_it(harness: LoopsHarness, serving: RunningServing) -> None:
    await harness.apply(serving.state(v("a-0@1"), candidate=v("b-5@1")))

    await harness.apply(serving.state(v("b-5@1")))
    await harness.apply(serving.state(v("a-0@1")))

    assert harness.loader.calls == ["a-0@1", "b-5@1", "a-0@1"]
    assert harness.loader.kept == {"a-0@1"}


async def test_a_version_that_failed_at_predictions_is_reported_once(
    harness: LoopsHarness, serving: RunningServing
) -> None:
    live = await harness.apply(serving.state(v("a-0@1")))

    for _ in range(3):
        harness.loops.report_failure(live, "a-0@1", "not finite")

    assert harness.reported() == [("a-0@1", "ready"), ("a-0@1", "fell_back")]
    assert harness.reports[-1].data.reason == "not finite"


async def test_an_older_state_changes_nothing(harness: LoopsHarness, serving: RunningServing) -> None:
    old, new = serving.state(v("a-0@1")), serving.state(v("a-0@2"))

    await harness.apply(new)
    live = await harness.apply(old)

    assert live.champion.version == "a-0@2"


def _named(served: ServedLoop | None) -> tuple[str, str | None, float]:
    assert served is not None
    return served.champion.version, served.candidate.version if served.candidate else None, served.share
