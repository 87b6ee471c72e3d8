"""Runs and searches that people request count for their team, by the records on the log."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.training.test_training_collecting import StubLearners, run
from tests.training.test_training_searches import searched
from tests.training.training_harness import START, state

from everloop_learning.loops import KnownLoops
from everloop_schemas.search import SearchRequested, SearchRequestedData
from everloop_schemas.training import DataSet, RunRequested
from everloop_shared.access.teams import TeamQuota
from everloop_shared.commands import ANONYMOUS, Actor
from everloop_shared.messaging.routes import Position
from everloop_training.adapters.personal import WITHOUT_KEYS
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.adapters.searches import MemorySearchLog
from everloop_training.domain.run_quota import MOST_REMEMBERED, RunQuota
from everloop_training.domain.search_reply import SearchReply
from everloop_training.errors import TooManyRuns
from everloop_training.handlers import Handlers, SearchHandlers

ADA, EVE, BOB = (Actor(n, "key", "evl_1", team=team) for n, team in (("ada", "risk"), ("eve", "risk"), ("bob", "shop")))
AT = Position("training.run_requested.v1")


class Replica:
    """A replica of training with a clock of its own."""

    def __init__(self, **quota: Any) -> None:
        self.now, self.quota = START, TeamQuota(**quota)
        loops, runs = KnownLoops(), MemoryRunLog()
        loops.apply(state())
        learners: Any = StubLearners(runs)
        counted = RunQuota(20, team_quotas=lambda team: self.quota)
        self.handlers = Handlers(loops, runs, learners, learners, WITHOUT_KEYS, lambda: self.now, counted)
        self.learners = learners

    async def request(self, actor: Actor) -> RunRequested:
        """A run that somebody requests, made now."""
        [made] = await self.handlers.request_run("market", "why not", None, actor=actor)
        return made


async def test_a_team_requests_as_many_runs_an_hour_as_its_quota_whoever_of_it_asks() -> None:
    replica = Replica(runs_per_hour=2)

    made = [await replica.request(actor) for actor in (ADA, EVE, BOB, ANONYMOUS, ANONYMOUS, ANONYMOUS)]
    replica.now = START + timedelta(minutes=20)
    with pytest.raises(TooManyRuns) as refused:
        await replica.request(ADA)
    known = await replica.handlers.request_run("market", "the same", made[0].data.run.removeprefix("r"), actor=ADA)
    replica.quota = TeamQuota(runs_per_hour=4)
    raised = await replica.request(ADA)

    assert [m.team for m in made] == ["risk", "risk", "shop", None, None, None]
    assert (len(known), raised.team) == (1, "risk"), "a key that was requested before, and a quota that was raised"
    assert (refused.value.http_status, refused.value.retry_after) == (429, 40 * 60.0)
    for named in ("team risk", "2 runs of 2", "quota runs_per_hour", "retry later", "EVERLOOP_AUTH_KEYS"):
        assert named in refused.value.detail


async def test_a_replica_that_starts_counts_what_is_on_the_log_also_of_deleted_loops_and_each_run_once() -> None:
    asked, replica = Replica(runs_per_hour=5), Replica(runs_per_hour=2)
    records = [(await asked.request(actor)).copy_with(time=START) for actor in (ADA, EVE)]
    old = records[0].copy_with(time=START - timedelta(minutes=61), data=run(7).data)

    for record in (*records, *records, old):
        await replica.handlers.on_run_requested(RunRequested.decode(record.encode()), AT)
    replica.handlers.runs.forget("market")
    with pytest.raises(TooManyRuns, match="2 runs of 2"):
        await replica.request(ADA)
    replica.now = START + timedelta(minutes=60)
    later = await replica.request(ADA)

    assert later.team == "risk"


async def test_searches_count_apart_from_runs() -> None:
    loops, searches = KnownLoops(), MemorySearchLog()
    loops.apply(state(of=searched()))
    quota = RunQuota(20, "searches", lambda team: TeamQuota(searches_per_hour=1, runs_per_hour=0))
    learners: Any = StubSearches()
    handlers = SearchHandlers(loops, searches, learners, lambda: START, quota)

    [first] = await handlers.request_search("market", 0, "why not", None, actor=ADA)
    with pytest.raises(TooManyRuns, match="1 searches of 1 within an hour"):
        await handlers.request_search("market", 0, "again", None, actor=EVE)
    [other] = await handlers.request_search("market", 0, "again", None, actor=BOB)

    assert (first.team, other.team) == ("risk", "shop")


class StubSearches:
    """Learners that request each search."""

    n = 0

    async def request_search(self, loop: str, model: int, key: str, reason: str) -> Any:
        """Another search."""
        self.n += 1
        data_set = DataSet(loop=loop, start=0, end=9, revision=1)
        data = SearchRequestedData.model_validate(
            {
                "search": f"s{self.n}", "key": f"manual/{key}", "reason": reason, "index": model,
                "model": {"preset": "logistic"}, "data_set": data_set, "metric": "accuracy", "trials": 3,
                "budget_s": 1.0, "seed": 0,
            }
        )  # fmt: skip
        return SearchReply(
            SearchRequested(id=f"q{self.n}", time=START, subject=data.search, loop=loop, revision=1, data=data)
        )


def test_what_is_remembered_of_teams_is_bounded() -> None:
    quota = RunQuota(20)

    for n in range(MOST_REMEMBERED + 10):
        quota.add("risk", f"r{n}", START, START)

    assert len(quota.by_team(START)["risk"]) == MOST_REMEMBERED
    assert quota.by_team(datetime.max.replace(tzinfo=START.tzinfo)) == {}
