"""Versions in memory: what is loaded, what keeps serving meanwhile, what is reported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.tasks import cancel

from everloop_features import FeaturePlan
from everloop_models import ArtifactUnavailable, Prediction
from everloop_schemas.envelope import Fields, at
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion, LoopState
from everloop_schemas.serving import VersionState
from everloop_serving.adapters.models import LoadedModels, Retries
from everloop_serving.domain.labels import LabelBook
from everloop_serving.domain.predict import Live
from everloop_serving.errors import Superseded

if TYPE_CHECKING:
    from tests.serving.conftest import World


@dataclass
class Loaded:
    """A version that came from memory."""

    version: str

    def predict(self, features: Fields) -> Prediction:
        """Yes."""
        return Prediction(True, None)


class MemoryLoader:
    """Loads what is not `away`, and counts how often it was asked."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.asked: list[str] = []
        self.kept: set[str] = set()
        self.turn = asyncio.Event()
        self.turn.set()

    async def load(self, live: LiveVersion, spec: LoopSpec, plan: FeaturePlan, wanted: Callable[[], bool]) -> Loaded:
        """The version, if it is wanted once its turn comes."""
        await self.turn.wait()
        if not wanted():
            raise Superseded(live.version)
        self.asked.append(live.version)
        if live.version in self.away:
            raise ArtifactUnavailable("away")
        return Loaded(live.version)

    def retain(self, sha256s: set[str]) -> None:
        """Remember what is to be kept."""
        self.kept = sha256s


class Quiet:
    """Counts nothing."""

    def loaded(self, loop: str, seconds: float) -> None:
        """Nothing."""

    def load_failed(self, loop: str) -> None:
        """Nothing."""


class House:
    """Models, their loader, and what they reported."""

    def __init__(self) -> None:
        self.loader = MemoryLoader()
        self.reports: list[VersionState] = []
        self.models = LoadedModels(
            self.loader,
            LabelBook(),
            self.reports.append,
            Quiet(),
            instance="one",
            clock=lambda: at(0),
            retries=Retries(3, 0.0),
        )

    async def take(self, state: LoopState) -> Live:
        """What answers once a state's versions are loaded."""
        self.models.want(state)
        await self.models.settled("market", 5)
        live = self.models.live("market")
        assert live is not None
        return live

    def said(self) -> list[tuple[str, str]]:
        """The reports: (version, state)."""
        return [(r.data.version, r.data.state) for r in self.reports]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """A house without versions yet."""
    built = House()
    yield built
    await built.models.close()


def v(name: str) -> LiveVersion:
    """A version with an artifact somewhere."""
    return LiveVersion(version=name, uri=f"memory://{name}", sha256=name, since=at(0))


async def test_a_refresh_is_served_only_once_it_is_loaded_and_the_old_one_until_then(
    house: House, world: World
) -> None:
    await house.take(world.state(v("a-0@1"), candidate=v("b-5@1"), stage="canary", share=0.25))

    house.models.want(world.state(v("a-0@2"), candidate=v("b-5@2"), stage="canary", share=0.5))
    meanwhile = house.models.live("market")
    await house.models.settled("market", 5)
    after = house.models.live("market")

    assert [_named(live) for live in (meanwhile, after)] == [("a-0@1", "b-5@1", 0.5), ("a-0@2", "b-5@2", 0.5)]
    assert house.said() == [("a-0@1", "ready"), ("b-5@1", "ready"), ("a-0@2", "ready"), ("b-5@2", "ready")]


async def test_a_candidate_that_is_not_here_gets_no_traffic(house: House, world: World) -> None:
    house.loader.away = {"b-5@1"}

    live = await house.take(world.state(v("a-0@1"), candidate=v("b-5@1"), stage="canary", share=0.25))

    assert _named(live) == ("a-0@1", None, 0.0)
    assert house.said() == [("a-0@1", "ready"), ("b-5@1", "failed")]
    assert house.loader.asked.count("b-5@1") == 3


async def test_the_stream_waits_for_a_first_champion_but_not_for_one_that_failed(house: House, world: World) -> None:
    house.loader.away = {"a-0@1"}
    state = world.state(v("a-0@1"))

    house.models.want(state)
    first = house.models.live("market")
    await house.models.settled("market", 5)
    given_up = house.models.live("market")

    assert first is not None
    assert given_up is not None
    assert (first.loading, given_up.loading, given_up.champion.version) == (True, False, "0")


async def test_a_version_that_failed_is_tried_again_when_the_store_is_back(house: House, world: World) -> None:
    house.loader.away = {"a-0@1"}
    await house.take(world.state(v("a-0@1")))
    house.loader.away = set()

    again = asyncio.create_task(house.models.try_again(0.0))
    await world.until(lambda: _named(house.models.live("market"))[0] == "a-0@1")
    await cancel(again)

    assert house.said() == [("a-0@1", "failed"), ("a-0@1", "ready")]


async def test_a_version_that_is_not_live_any_more_when_its_turn_comes_is_not_loaded(
    house: House, world: World
) -> None:
    house.loader.turn.clear()
    for n in range(1, 5):
        house.models.want(world.state(v(f"a-0@{n}")))
    await asyncio.sleep(0)
    house.loader.turn.set()

    await house.models.settled("market", 5)

    assert house.loader.asked == ["a-0@4"]
    assert house.said() == [("a-0@4", "ready")]


async def test_a_version_is_let_go_once_no_state_names_it(house: House, world: World) -> None:
    await house.take(world.state(v("a-0@1"), candidate=v("b-5@1")))

    await house.take(world.state(v("b-5@1")))
    await house.take(world.state(v("a-0@1")))

    assert house.loader.asked == ["a-0@1", "b-5@1", "a-0@1"]
    assert house.loader.kept == {"a-0@1"}


async def test_a_version_that_fell_is_reported_once(house: House, world: World) -> None:
    live = await house.take(world.state(v("a-0@1")))

    for _ in range(3):
        house.models.fell(live, "a-0@1", "not finite")

    assert house.said() == [("a-0@1", "ready"), ("a-0@1", "fell_back")]
    assert house.reports[-1].data.reason == "not finite"


async def test_an_older_state_changes_nothing(house: House, world: World) -> None:
    old, new = world.state(v("a-0@1")), world.state(v("a-0@2"))

    await house.take(new)
    live = await house.take(old)

    assert live.champion.version == "a-0@2"


def _named(live: Live | None) -> tuple[str, str | None, float]:
    assert live is not None
    return live.champion.version, live.candidate.version if live.candidate else None, live.share
