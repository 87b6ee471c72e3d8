"""Searches are done in a process of their own, one at a time; however one ends, its end is on the log."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from tests.builders.events import run_requested
from tests.builders.loops import loop_state
from tests.builders.running import until
from tests.processes import named_children
from tests.training import search_child
from tests.training.training_harness import START, event, spec

from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search import SearchFinished, SearchRequested, SearchRequestedData, TrialFinished
from everloop_schemas.training import DataSet, RunRequested
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.adapters import searches as search_log
from everloop_training.adapters.data_sets import DataSets
from everloop_training.adapters.search_process import SearchProcess
from everloop_training.adapters.searcher import MODELS_CHANGED, Searcher
from everloop_training.adapters.searches import MemorySearchLog
from everloop_training.domain.run_reply import RunReply
from everloop_training.errors import OutcomesNotLearned

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
OUTCOMES, WITHIN_S = 150, 20.0
MODEL = ModelSpec.model_validate({"estimator": "river.linear_model.LogisticRegression", "scale": True})


def requested(name: str, index: int = 0, at: int = 0, budget_s: float = 60.0, trials: int = 3) -> SearchRequested:
    """A search of the loop `market`, as if requested so many minutes after the start."""
    data = SearchRequestedData(
        search=name,
        key=f"search/{index}/{OUTCOMES - 1}",
        reason="outcomes",
        index=index,
        model=MODEL,
        data_set=DataSet(loop="market", start=0, end=OUTCOMES - 1, revision=1),
        metric="accuracy",
        trials=trials,
        budget_s=budget_s,
        seed=1,
    )
    when = START + timedelta(minutes=at)
    return SearchRequested(id=f"r-{name}", time=when, subject=name, loop="market", revision=1, data=data)


class House:
    """A searcher with the outcomes of the loop `market` on its log, and what it publishes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "search"
        self.loops, self.searches, self.broker = KnownLoops(), MemorySearchLog(), MemoryBroker(partitions=1)
        self.loops.apply(loop_state(spec()))
        self.published: list[Event] = []
        self.tuned: list[tuple[str, ModelSpec, str]] = []
        self.behind, self.here, self.run = 0, True, True

    async def request_tuned_run(self, search: SearchRequested, model: ModelSpec, reason: str) -> RunReply:
        """The Learners port, as far as a searcher needs it."""
        if self.behind:
            self.behind -= 1
            raise OutcomesNotLearned("the log is being learned again")
        self.tuned.append((search.data.search, model, reason))
        return RunReply(run_requested(search.data.search, loop="market") if self.run else None)

    async def publish(self, events: list[Event]) -> None:
        """Take what is published."""
        self.published += events

    def ends(self) -> list[SearchFinished]:
        """The ends so far."""
        return [e for e in self.published if isinstance(e, SearchFinished)]

    def trials(self) -> list[TrialFinished]:
        """The trials so far."""
        return [e for e in self.published if isinstance(e, TrialFinished)]

    @asynccontextmanager
    async def searcher(self, mode: str, grace_s: float = WITHIN_S, data_bytes: int = 10**9) -> AsyncIterator[None]:
        """A searcher that runs meanwhile, whose process answers as the mode says."""
        for i in range(OUTCOMES):
            one = event(i)
            await self.broker.append(one.topic.name, one.key(), one.encode())
        process = SearchProcess(60.0, 1, 10**9, "", (str(Path(search_child.__file__)), mode), grace_s)
        data_sets = DataSets(self.loops, self.broker.engine("training"))
        searcher = Searcher(
            *(self.folder, self.loops, self.searches, lambda loop: self.here, data_sets),
            *(self, self.publish, process, data_bytes),  # type: ignore[arg-type]
        )
        job = asyncio.create_task(searcher.run())
        try:
            yield
        finally:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)


async def wait_for(condition: Callable[[], object]) -> None:
    await until(condition, within_s=WITHIN_S)


def children() -> list[psutil.Process]:
    """The processes of searches."""
    return named_children("search_child")


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A searcher's surroundings."""
    return House(tmp_path)


async def test_the_best_model_of_a_search_challenges_and_all_trials_are_events(house: House) -> None:
    search = house.searches.add_requested(requested("s1"))
    house.behind = 1
    async with house.searcher("search"):
        await wait_for(house.ends)

    assert [(t.subject, t.data.search, t.data.score) for t in house.trials()] == [
        ("s1/0", "s1", 0.5),
        ("s1/1", "s1", 0.6),
        ("s1/2", "s1", 0.7),
    ]
    run, end = house.published[-2:]
    assert isinstance(run, RunRequested)
    assert isinstance(end, SearchFinished)
    assert (end.data.state, end.data.best, end.data.run) == ("improved", 2, run.data.run)
    assert (end.causationid, end.correlationid) == (search.id, "s1")
    assert end.data.data_set is not None
    assert (end.data.data_set.rows, end.data.data_set.name) == (OUTCOMES, "market@0..149#1")
    [(name, model, reason)] = house.tuned
    assert (name, model.parameters["l2"]) == ("s1", 0.03)
    assert reason == "trial 2 of a search: accuracy 0.7, 0.5 before"
    assert list(house.folder.iterdir()) == []


async def test_a_search_that_finds_nothing_better_changes_nothing(house: House) -> None:
    house.searches.add_requested(requested("s1"))
    async with house.searcher("unchanged"):
        await wait_for(house.ends)

    [end] = house.ends()
    assert (end.data.state, end.data.run, house.tuned) == ("unchanged", None, [])


async def test_a_model_that_the_loop_does_not_have_any_more_does_not_challenge(house: House) -> None:
    house.searches.add_requested(requested("s1"))
    house.run = False
    async with house.searcher("search"):
        await wait_for(house.ends)

    [end] = house.ends()
    assert (end.data.state, end.data.reason, end.data.run) == ("unchanged", MODELS_CHANGED, None)


async def test_of_the_searches_of_a_model_the_newest_is_done(house: House) -> None:
    for name, index, at in (("old", 0, 1), ("other", 1, 2), ("new", 0, 3)):
        house.searches.add_requested(requested(name, index, at))
    async with house.searcher("search"):
        await wait_for(lambda: len(house.ends()) == 3)

    ends = {e.data.search: e.data for e in house.ends()}
    assert ends["old"].state == "failed"
    assert "superseded by search new" in (ends["old"].reason or "")
    assert (ends["other"].state, ends["new"].state) == ("improved", "improved")


async def test_a_search_under_way_goes_on_while_a_newer_one_waits(house: House) -> None:
    house.searches.add_requested(requested("s1", at=1))
    async with house.searcher("slow"):
        await wait_for(lambda: len(house.trials()) == 2)
        [process] = children()
        house.searches.add_requested(requested("s2", at=2))
        await asyncio.sleep(0)
        assert children() == [process]
        assert house.ends() == []


@pytest.mark.parametrize("how", ["deleted", "elsewhere"])
async def test_a_search_that_is_not_wanted_any_more_is_given_up(house: House, how: str) -> None:
    house.searches.add_requested(requested("s1"))
    async with house.searcher("slow"):
        await wait_for(lambda: len(house.trials()) == 2)
        if how == "deleted":
            house.loops.apply(loop_state(spec(), sequence=9, deleted=True))
        else:
            house.here = False

        await wait_for(lambda: children() == [])
        assert house.ends() == []


async def test_a_search_is_done_again_after_a_restart_and_its_known_trials_are_not_published_twice(
    house: House,
) -> None:
    house.searches.add_requested(requested("s1"))
    async with house.searcher("slow"):
        await wait_for(lambda: len(house.trials()) == 2)
    assert children() == []

    async with house.searcher("search"):
        await wait_for(house.ends)

    assert [t.subject for t in house.trials()] == ["s1/0", "s1/1", "s1/2"]
    assert len({t.id for t in house.trials()}) == 3


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("garbage", "which is no answer"),
        ("exit", "exited with 3"),
        ("long", "a line that is too long"),
        ("many", "more trials than it was asked for"),
    ],
)
async def test_a_process_that_does_not_answer_as_agreed_fails_its_search(house: House, mode: str, reason: str) -> None:
    house.searches.add_requested(requested("s1"))
    async with house.searcher(mode):
        await wait_for(house.ends)

    [end] = house.ends()
    assert end.data.state == "failed"
    assert reason in (end.data.reason or "")
    assert children() == []


async def test_a_search_beyond_its_time_is_ended_with_the_fix(house: House) -> None:
    house.searches.add_requested(requested("s1", budget_s=0.1))
    async with house.searcher("slow", grace_s=5.0):
        await wait_for(house.ends)

    assert "take a smaller window" in (house.ends()[0].data.reason or "")
    assert children() == []


async def test_a_process_that_is_killed_fails_its_search(house: House) -> None:
    house.searches.add_requested(requested("s1"))
    async with house.searcher("slow"):
        await wait_for(lambda: len(house.trials()) == 2)
        os.kill(children()[0].pid, signal.SIGKILL)
        await wait_for(house.ends)

    assert "SIGKILL" in (house.ends()[0].data.reason or "")


async def test_a_data_set_beyond_the_limit_fails_the_search_with_the_fix(house: House) -> None:
    house.searches.add_requested(requested("s1"))
    async with house.searcher("search", data_bytes=1_000):
        await wait_for(house.ends)

    assert "take a smaller window" in (house.ends()[0].data.reason or "")


async def test_a_search_waits_while_what_it_runs_on_is_away(house: House) -> None:
    house.searches.add_requested(requested("s1"))
    async with house.searcher("away"):
        await wait_for(house.ends)

    assert house.ends()[0].data.state == "improved"


def test_the_memory_of_searches_and_trials_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_log, "SEARCHES_PER_LOOP", 3)
    monkeypatch.setattr(search_log, "TRIALS_KEPT", 5)
    known = MemorySearchLog()
    for n in range(5):
        known.add_requested(requested(f"s{n}", at=n))
        for i in range(2):
            trial = {"search": f"s{n}", "trial": i, "state": "complete", "parameters": {}, "seconds": 1.0}
            body = {"id": f"{n}{i}", "time": START, "subject": f"s{n}/{i}", "loop": "market", "revision": 1}
            known.add_trial(TrialFinished.model_validate({**body, "data": trial}))

    assert [(s.requested.data.search, len(s.trials)) for s in known.of("market")] == [("s2", 0), ("s3", 2), ("s4", 2)]
    assert [s.data.search for s in known.newest()] == ["s4"]
    known.forget("market")
    assert (known.of("market"), known.open()) == ([], [])
