"""Trainers elsewhere: they take runs by leases, renew them, and answer, once or twice, in time or late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders.loops import NOW, loop_spec, loop_state
from tests.http_apps import http_app

from everloop_learning.loops import KnownLoops
from everloop_models.formats.onnx.interface import GivenInterface
from everloop_models.intake import CheckedModel, FeatureNames, ModelRefused
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.training import (
    DataSet,
    RunFinished,
    RunFinishedData,
    RunRequested,
    RunRequestedData,
    StoredModel,
)
from everloop_shared.commands import CommandEdge, publishing
from everloop_shared.http import HttpEndpoint
from everloop_shared.http.uploads import UploadFolder
from everloop_shared.service import Service
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.api.trainers import UPLOAD, trainer_router
from everloop_training.domain.leases import MAX_LEASES, Leases
from everloop_training.domain.trained_model import TrainedModel
from everloop_training.handlers import TrainerHandlers
from everloop_training.settings import TrainingSettings

pytestmark = pytest.mark.app
JSON = {"content-type": "application/json"}
TRAINER = ModelSpec.model_validate({"trainer": "pytorch", "window": 100, "every": 50, "epochs": 5})
LEASE_S = 60.0


def requested(run: str = "run-1", end: int = 99, line: str = "pytorch-0", model: ModelSpec = TRAINER) -> RunRequested:
    """A run that asks for a model."""
    data = RunRequestedData(
        run=run,
        key=f"outcomes/{line}/{end}",
        trigger="outcomes",
        reason="50 outcomes",
        line=line,
        model=model,
        start_offset=0,
        requested_offset=end,
        data_set=DataSet(loop="market", start=0, end=end, revision=1),
    )
    when = NOW + timedelta(seconds=end)
    return RunRequested(id=run, time=when, subject=run, loop="market", revision=1, correlationid=run, data=data)


@dataclass
class StubLearners:
    """The learners, as far as runs end there: the first end of a run counts."""

    runs: MemoryRunLog
    taken: list[TrainedModel] = field(default_factory=list)
    position: int = 120

    async def take_model(self, loop: str, run: str, model: TrainedModel) -> RunFinished | None:
        """The run has a model."""
        self.taken.append(model)
        return self._end(loop, run, state="trained", artifact=model.stored, metrics=dict(model.metrics))

    async def fail_run(self, loop: str, run: str, reason: str) -> RunFinished | None:
        """The run has none."""
        return self._end(loop, run, state="failed", reason=reason)

    def _end(self, loop: str, run: str, **data: Any) -> RunFinished:
        request, before = next((r, f) for r, f in self.runs.of(loop) if r.data.run == run)
        if before is not None:
            return before
        line = request.data.line
        ended = RunFinishedData(run=run, line=line, offset=self.position, outcomes=100, **data)
        end = RunFinished(id=f"{run}-end", time=NOW, subject=run, loop=loop, revision=1, data=ended)
        self.runs.add_finished(end)
        return end


class StubIntake:
    """Takes every file that does not begin with `bad`."""

    async def check(
        self, data: bytes, given: GivenInterface, spec: LoopSpec, features: FeatureNames, samples: Sequence[Fields]
    ) -> CheckedModel:
        """The model."""
        if data.startswith(b"bad"):
            raise ModelRefused("it predicts NaN")
        return CheckedModel(data, data.decode(), ("price",), ("x",), ("p",), 17, {})

    async def put(self, loop: str, version: str, model: CheckedModel) -> StoredModel:
        """Where it is."""
        return StoredModel(uri=f"memory://{version}", **model.stored)


@dataclass
class House:
    """The endpoints, with what lies behind them."""

    client: httpx.AsyncClient
    runs: MemoryRunLog
    learners: StubLearners
    handlers: TrainerHandlers
    now: datetime = NOW

    def request(self, *runs: RunRequested) -> None:
        """Request runs."""
        for run in runs:
            self.runs.add_requested(run)
        self.handlers.on_run_requested()

    async def lease(self, trainer: str = "pytorch", **body: Any) -> httpx.Response:
        """Take a run."""
        return await self._post("lease", trainer=trainer, **body)

    async def act(self, verb: str, lease: dict[str, Any], **body: Any) -> httpx.Response:
        """Renew, release or fail."""
        return await self._post(f"{lease['run']}/{verb}", lease=lease["lease"]["id"], **body)

    async def answer(self, run: str = "run-1", data: bytes = b"model", **manifest: Any) -> httpx.Response:
        """Send a model."""
        headers = {"content-type": "application/onnx", "everloop-manifest": json.dumps(manifest)}
        return await self.client.put(f"/market/runs/{run}/model", content=data, headers=headers)

    async def _post(self, path: str, **body: Any) -> httpx.Response:
        return await self.client.post(f"/market/runs/{path}", content=json.dumps(body), headers=JSON)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """The endpoints of trainers over stubs of the learners and the intake."""
    loops, runs, published = KnownLoops(), MemoryRunLog(), list[Any]()
    loops.apply(loop_state(loop_spec(models=[TRAINER.model_dump(exclude_none=True, exclude_defaults=True)])))
    learners, settings = StubLearners(runs), TrainingSettings(data=tmp_path)
    handlers = TrainerHandlers(loops, runs, learners, StubIntake(), Leases(LEASE_S, 150.0))  # type: ignore[arg-type]

    async def publish(events: Sequence[Any]) -> None:
        published.extend(events)

    routes = trainer_router(handlers, CommandEdge(publishing(publish)), UploadFolder(tmp_path, settings), 1_000)
    service = Service("training", settings, [HttpEndpoint("training", settings, routes, uploads=[UPLOAD])])
    transport = httpx.ASGITransport(http_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/v1/loops") as client:
        made = House(client, runs, learners, handlers)
        handlers.clock = lambda: made.now
        yield made


async def test_a_trainer_takes_a_run_with_all_that_it_needs(house: House) -> None:
    house.request(requested())

    taken = (await house.lease()).json()

    assert (taken["run"], taken["line"], taken["trigger"]) == ("run-1", "pytorch-0", "outcomes")
    assert taken["parameters"] == {"epochs": 5}
    assert taken["data_set"]["name"] == "market@0..99#1"
    assert (taken["lease"]["number"], taken["lease"]["seconds"]) == (1, LEASE_S)


async def test_no_two_trainers_have_a_run_and_another_trainer_gets_none(house: House) -> None:
    house.request(requested())

    answers = await asyncio.gather(house.lease(), house.lease(), house.lease("tensorflow"))

    assert sorted(a.status_code for a in answers) == [200, 204, 204]


async def test_a_request_for_a_run_that_is_repeated_gets_the_same_lease(house: House) -> None:
    house.request(requested(), requested("run-2", end=80, line="pytorch-7"))

    first, again = await house.lease(lease="a" * 32), await house.lease(lease="a" * 32)

    assert again.json() == first.json()


async def test_a_trainer_that_waits_gets_the_run_when_it_is_requested(house: House) -> None:
    waiting = asyncio.ensure_future(house.lease(wait=30))
    await asyncio.sleep(0)
    house.request(requested())

    async with asyncio.timeout(5):
        assert (await waiting).json()["run"] == "run-1"


async def test_only_the_newest_run_of_a_line_is_offered(house: House) -> None:
    house.request(requested(), requested("run-2", end=149), requested("run-3", end=80, line="pytorch-7"))

    taken = [(await house.lease()).json()["run"] for _ in range(2)]

    assert (sorted(taken), (await house.lease()).status_code) == (["run-2", "run-3"], 204)


async def test_a_good_answer_ends_the_run_with_what_the_trainer_says(house: House) -> None:
    house.request(requested())
    await house.lease()
    house.now += timedelta(seconds=12)

    answer = await house.answer(metrics={"accuracy": 0.9}, digest="a" * 64, rows=97)

    assert answer.json() | {"reason": None} == {
        "loop": "market",
        "run": "run-1",
        "line": "pytorch-0",
        "state": "trained",
        "offset": 120,
        "reason": None,
        "metrics": {"accuracy": 0.9},
        "version": "pytorch-0@120",
    }
    [model] = house.learners.taken
    assert (model.seconds, model.trainer, model.data_set and model.data_set.rows) == (12.0, "pytorch", 97)
    assert model.stored.uri == "memory://pytorch-0@99"


async def test_the_same_answer_again_is_answered_alike_and_another_is_409(house: House) -> None:
    house.request(requested())
    await house.lease()
    first = await house.answer()

    again, other = await house.answer(), await house.answer(data=b"other")

    assert (first.status_code, again.status_code, other.status_code) == (200, 200, 409)
    assert again.json() == first.json()
    assert len(house.learners.taken) == 1


async def test_a_model_that_is_refused_leaves_the_run_with_its_trainer(house: House) -> None:
    house.request(requested())
    lease = (await house.lease()).json()

    refused = await house.answer(data=b"bad")
    renewed, good = await house.act("renew", lease), await house.answer()

    assert (refused.status_code, renewed.status_code, good.status_code) == (422, 200, 200)
    assert refused.json()["errors"] == [{"field": "model", "error": "it predicts NaN"}]


async def test_a_run_whose_trainer_died_goes_to_the_next_one_and_the_first_answer_counts(house: House) -> None:
    house.request(requested())
    dead = (await house.lease()).json()
    house.now += timedelta(seconds=LEASE_S)

    second = (await house.lease()).json()
    late = await house.act("renew", dead)
    answered, too_late = await house.answer(data=b"second"), await house.answer(data=b"first")

    assert (second["run"], second["lease"]["number"]) == ("run-1", 2)
    assert (late.status_code, answered.status_code, too_late.status_code) == (409, 200, 409)
    assert "another trainer" in late.json()["detail"]


async def test_an_answer_after_the_lease_counts_while_the_run_is_open(house: House) -> None:
    house.request(requested())
    await house.lease()
    house.now += timedelta(seconds=LEASE_S * 2)

    assert (await house.answer()).status_code == 200


async def test_a_run_that_nobody_answers_has_failed_after_its_last_lease(house: House) -> None:
    house.request(requested())
    for _ in range(MAX_LEASES):
        await house.lease()
        assert await house.handlers.give_up() == []
        house.now += timedelta(seconds=LEASE_S)

    [ended] = await house.handlers.give_up()
    answer = await house.answer()

    assert (ended.data.state, (await house.lease()).status_code) == ("failed", 204)
    assert answer.status_code == 409
    assert "3 trainers took the run" in answer.json()["detail"]


async def test_an_answer_to_a_run_that_a_newer_one_superseded_is_409_with_the_newer(house: House) -> None:
    house.request(requested())
    lease = (await house.lease()).json()
    house.request(requested("run-2", end=149))

    answer, renewed = await house.answer(), await house.act("renew", lease)

    assert (answer.status_code, renewed.status_code) == (409, 409)
    assert answer.json()["code"] == "run_superseded"
    assert "run-2" in answer.json()["errors"][0]["error"]
    assert house.learners.taken == []


async def test_a_trainer_gives_a_run_up_or_leaves_it_to_the_next(house: House) -> None:
    house.request(requested())
    first = (await house.lease()).json()

    released = await house.act("release", first)
    second = (await house.lease()).json()
    stranger = await house.act("fail", first, reason="mine no more")
    failed = await house.act("fail", second, reason="one class only")
    again = await house.act("fail", second, reason="one class only")

    assert [a.status_code for a in (released, stranger, failed, again)] == [200, 409, 200, 200]
    assert (failed.json()["state"], failed.json()["reason"]) == ("failed", "pytorch: one class only")
    assert (await house.lease()).status_code == 204


@pytest.mark.parametrize("run", ["nobodys-run", "online"])
async def test_a_run_that_asks_no_trainer_is_404(house: House, run: str) -> None:
    online = requested("online", model=ModelSpec(preset="logistic"))
    house.request(online.copy_with(data=online.data.model_copy(update={"data_set": None})))

    assert (await house.answer(run)).status_code == 404


async def test_bad_requests_are_refused_with_the_field(house: House) -> None:
    house.request(requested())

    named = await house.lease("My Trainer")
    waited = await house.lease(wait=3600)
    empty = await house.answer(data=b"")
    large = await house.answer(data=b"x" * 1_001)
    metrics = await house.answer(metrics={"accuracy": None})
    unknown = await house.client.post("/nobody/runs/lease", content=b'{"trainer": "pytorch"}', headers=JSON)

    assert [a.status_code for a in (named, waited, empty, large, metrics, unknown)] == [422, 422, 422, 413, 422, 404]
    assert "trainer" in named.json()["detail"]
