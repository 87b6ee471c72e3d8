"""From a poor parameter to a challenger with a better one: the service with its process of a search."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest
from tests.builders.running import http_client
from tests.training.training_harness import event, losses, running_training, spec, state

from everloop_schemas.search import SearchFinished, SearchRequested, TrialFinished
from everloop_schemas.training import ChallengeUpdated, RunRequested
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.process, pytest.mark.frameworks, pytest.mark.timeout(120)]
POOR = {"preset": "logistic", "learning_rate": 0.000001}
SEARCHED = spec(
    models=[POOR],
    search={"space": {"models.0.learning_rate": {"log": [0.000001, 1.0]}}, "trials": 8, "every": 300, "features": 1},
)


async def test_a_loop_with_a_search_replaces_a_poor_parameter_by_a_better_one(tmp_path: Path) -> None:
    broker = MemoryBroker(partitions=1)
    async with running_training(broker, tmp_path) as training:
        await training.publish(state(of=SEARCHED), *[event(i) for i in range(310)])
        [end] = await training.wait_for(SearchFinished, 1, within_s=90.0)
        await training.publish(*[event(i) for i in range(310, 400)])
        await training.wait_until_learned(399)
        async with http_client(training.service) as http:
            found = (await http.get("/v1/loops/market/searches", params={"trials": "true"})).json()["searches"]
            runs = (await http.get("/v1/loops/market/runs")).json()["runs"]
            body = {"key": "monday", "reason": "to see"}
            asked = [await http.post("/v1/loops/market/searches", json=body) for _ in range(2)]
            unknown = await http.get("/v1/loops/nowhere/searches")

    trials = training.published(TrialFinished)
    assert [trial.data.trial for trial in trials] == list(range(9))
    assert (trials[0].data.parameters, trials[8].data.feature is not None) == ({}, True)
    assert end.data.state == "improved", end.data
    assert end.data.score is not None
    assert end.data.base_score is not None
    assert end.data.score > end.data.base_score + 0.1
    [run] = [r for r in training.published(RunRequested) if r.data.trigger == "search"]
    assert (run.data.run, run.data.model) == (end.data.run, end.data.model)
    by_line = losses(training.published(ChallengeUpdated))
    assert max(by_line[run.data.line]) == 399
    assert mean(by_line[run.data.line].values()) <= mean(by_line["logistic-0"][i] for i in by_line[run.data.line])
    [shown] = found
    assert (shown["state"], shown["run"], len(shown["results"])) == ("improved", run.data.run, 9)
    assert run.data.run in [each["run"] for each in runs]
    assert [a.status_code for a in asked] == [202, 202]
    assert asked[0].json()["search"] == asked[1].json()["search"] != shown["search"]
    assert len({s.id for s in training.published(SearchRequested)}) == 2
    assert unknown.status_code == 404
