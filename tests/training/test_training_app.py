"""Training as a service: events in, events out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.builders.running import http_client, until
from tests.training.predicting_lines import TRAINER, fitted, mixed
from tests.training.training_harness import (
    RunningTraining,
    alert,
    event,
    losses,
    of,
    running_training,
    spec,
    state,
)

from everloop_learning.loops import KnownLoops
from everloop_models import Artifact, verify_and_load
from everloop_models.store import ArtifactStore
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Topic
from everloop_schemas.training import ChallengeUpdated, ModelTrained, RunFinished, RunRequested, StoredModel
from everloop_shared.messaging.memory import MemoryBroker, MemoryEngine
from everloop_training.adapters.personal import WITHOUT_KEYS
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.adapters.searches import MemorySearchLog
from everloop_training.adapters.supervisor import WorkerSupervisor
from everloop_training.domain.trained_model import TrainedModel
from everloop_training.settings import TrainingSettings
from everloop_training.worker.inline import InlineWorker

pytestmark = pytest.mark.app

JSON = {"content-type": "application/json"}
LINE = "logistic-regression-0"
ALERTS = ("training", "monitoring.drift_detected.v1", 0)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(partitions=1)


async def test_a_new_loop_gets_an_initial_run_and_its_first_version(broker: MemoryBroker, tmp_path: Path) -> None:
    async with running_training(broker, tmp_path) as training:
        await training.publish(state(), *[event(i) for i in range(60)])

        [trained] = await training.until(lambda: training.published(ModelTrained))

        assert (trained.subject, trained.data.reason) == (f"{LINE}@29", "initial")
        model = verify_and_load(Path(urlsplit(trained.data.uri).path).read_bytes(), trained.data.sha256)
        assert model.signature == ("a", "b")
        assert [r.data.trigger for r in training.published(RunRequested)] == ["initial"]
        await training.until(lambda: [f.data.state for f in training.published(RunFinished)] == ["trained"])


async def test_the_champion_is_refreshed_while_it_learns(
    broker: MemoryBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_training.worker.learners.loop_learner.MIN_REFRESH_S", 0.0)  # outcomes come at once
    async with running_training(broker, tmp_path) as training:
        await training.publish(state(), *[event(i) for i in range(60)])
        await training.wait_until_learned(59)
        await training.publish(state(1, champion=f"{LINE}@29"))
        for i in range(60, 260, 20):
            await training.publish(*[event(j) for j in range(i, i + 20)])
            await training.wait_until_learned(i + 19)

        assert [t.subject for t in training.published(ModelTrained)][1:] == [f"{LINE}@99", f"{LINE}@199"]


async def test_a_drift_starts_a_fresh_line_that_learns_the_new_concept(broker: MemoryBroker, tmp_path: Path) -> None:
    async with running_training(broker, tmp_path) as training:
        await training.publish(
            state(), *[event(i) for i in range(600)], *[event(i, flipped=True) for i in range(600, 700)]
        )
        await training.publish(alert(650, 601))
        [run] = await training.until(lambda: [r for r in training.published(RunRequested) if r.data.trigger == "drift"])
        await training.publish(*[event(i, flipped=True) for i in range(700, 800)])
        await training.wait_until_learned(799)

        fresh = losses(training.published(ChallengeUpdated))[run.data.line]

        assert run.causationid == "alert"
        assert run.data.start_offset == 601
        assert sum(fresh.values()) / len(fresh) < 0.3
        assert min(fresh) > run.data.requested_offset


async def test_only_a_drift_of_the_served_error_starts_a_run_unless_the_spec_asks(
    broker: MemoryBroker, tmp_path: Path
) -> None:
    of_a_feature = alert(650, 601, "feature", kind="data", of="a")
    async with running_training(broker, tmp_path) as training:
        await training.publish(state(), *[event(i) for i in range(700)], of_a_feature, alert(650, 601, "error"))

        await training.until(lambda: broker.committed.get(ALERTS) == 2)

        assert [r.causationid for r in training.published(RunRequested) if r.data.trigger == "drift"] == ["error"]


async def test_an_alert_before_its_outcomes_waits_for_them(broker: MemoryBroker, tmp_path: Path) -> None:
    async with running_training(broker, tmp_path) as training:
        await training.publish(state(), *[event(i) for i in range(100)], alert(650, 601))
        await training.wait_until_learned(99)

        await training.publish(*[event(i) for i in range(100, 700)])

        await training.until(lambda: [r for r in training.published(RunRequested) if r.data.trigger == "drift"])
        assert broker.events(DEAD_LETTERS["training"].topic) == []


async def test_a_hundred_feedback_events_start_a_run(broker: MemoryBroker, tmp_path: Path) -> None:
    async with running_training(broker, tmp_path) as training:
        await training.publish(state(of=spec(retrain={"on_feedback": 100})), *[event(i) for i in range(150)])

        await training.publish(*[event(i, kind="feedback", label=None, correction=1) for i in range(120)])

        await training.until(lambda: "feedback" in [r.data.trigger for r in training.published(RunRequested)])


async def test_a_restart_from_a_snapshot_gives_the_same_losses(tmp_path: Path) -> None:
    whole, parted = MemoryBroker(partitions=1), MemoryBroker(partitions=1)
    async with running_training(whole, tmp_path / "whole") as training:
        await training.publish(state(), *[event(i) for i in range(900)])
        await training.wait_until_learned(899)

    async with running_training(parted, tmp_path / "parted", snapshot_outcomes=100) as training:
        await training.publish(state(), *[event(i) for i in range(500)])
        await training.wait_until_learned(250)
    async with running_training(parted, tmp_path / "parted") as training:
        await training.publish(*[event(i) for i in range(500, 900)])
        await training.wait_until_learned(899)
        assert len({e.id for e in training.published(RunRequested)}) == 1

    found = [losses(of(ChallengeUpdated, b.events(ChallengeUpdated.topic))) for b in (whole, parted)]
    assert found[0] == found[1]


async def test_an_alert_redelivered_after_a_crash_is_the_same_run(tmp_path: Path, broker: MemoryBroker) -> None:
    async with running_training(broker, tmp_path / "first") as training:
        await training.publish(state(), *[event(i) for i in range(700)])
        await training.wait_until_learned(699)
        await training.publish(alert(650, 601))
        await training.until(lambda: len(training.published(RunRequested)) == 2)
    broker.committed.clear()

    async with running_training(broker, tmp_path / "second") as training:
        await training.publish(*[event(i) for i in range(700, 800)])
        await training.wait_until_learned(799)
        await training.until(lambda: broker.committed.get(ALERTS) == 1)

        assert len({r.id for r in training.published(RunRequested)}) == 2
        assert len({r.data.run for r in training.published(RunRequested)}) == 2


async def test_a_snapshot_of_another_log_is_not_used(tmp_path: Path) -> None:
    async with running_training(MemoryBroker(partitions=1), tmp_path) as training:
        await training.publish(state(), *[event(i) for i in range(300)])
        await training.wait_until_learned(299)

    async with running_training(MemoryBroker(partitions=1), tmp_path) as training:
        await training.publish(state(), *[event(i) for i in range(100)])
        await training.wait_until_learned(99)

        assert sorted(losses(training.published(ChallengeUpdated))[LINE]) == list(range(100))


async def test_runs_are_listed_and_requested_by_http(broker: MemoryBroker, tmp_path: Path) -> None:
    async with running_training(broker, tmp_path) as training, http_client(training.service) as client:
        unknown = await client.post("/v1/loops/nowhere/runs", headers=JSON)
        await training.publish(state())
        await training.publish(*[event(i) for i in range(60)])
        await training.wait_until_learned(59)

        first = await client.post("/v1/loops/market/runs", json={"reason": "a new season", "key": "k1"})
        again = await client.post("/v1/loops/market/runs", json={"key": "k1"})
        listed = (await client.get("/v1/loops/market/runs")).json()["runs"]

        assert unknown.status_code == 404
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["run"] == again.json()["run"]
        assert [(r["trigger"], r["reason"]) for r in listed] == [
            ("initial", "a model of the loop's spec"),
            ("manual", "a new season"),
        ]


class Workers:
    """Starts workers, and remembers them."""

    def __init__(self) -> None:
        self.all: list[InlineWorker] = []

    async def start(self, settings: TrainingSettings) -> InlineWorker:
        self.all.append(await InlineWorker.start(settings))
        return self.all[-1]


async def an_alert_waits(training: RunningTraining) -> None:
    """The second of two, in the cooldown of the first; its offset is committed."""
    await training.publish(state(), *[event(i) for i in range(700)], alert(650, 601))
    await training.until(lambda: len(training.published(RunRequested)) == 2)
    await training.publish(*[event(i) for i in range(700, 1000)], alert(990, 950, "waits"))
    await training.wait_until_learned(999)
    await training.until(lambda: training.broker.committed.get(ALERTS) == 2)


async def test_an_alert_that_waits_outlives_the_worker(broker: MemoryBroker, tmp_path: Path) -> None:
    workers = Workers()
    async with running_training(broker, tmp_path, workers.start) as training:
        await an_alert_waits(training)

        await workers.all[0].end()
        await training.publish(*[event(i) for i in range(1000, 1300)])

        await training.until(lambda: [r.causationid for r in training.published(RunRequested)][2:] == ["waits"])


async def test_an_alert_that_waits_outlives_the_replica(broker: MemoryBroker, tmp_path: Path) -> None:
    async with running_training(broker, tmp_path / "gone") as training:
        await an_alert_waits(training)
    broker.committed[ALERTS] = 99  # what was committed does not count, what the snapshot reflects does

    async with running_training(broker, tmp_path / "without a snapshot") as training:
        await training.until(lambda: broker.committed.get(ALERTS) == 2)
        await training.publish(*[event(i) for i in range(1000, 1300)])

        await training.until(lambda: "waits" in [r.causationid for r in training.published(RunRequested)])
        assert len({r.id for r in training.published(RunRequested)}) == 3


async def test_the_runs_show_what_a_line_is_trained_on_and_what_came_of_it(
    broker: MemoryBroker, tmp_path: Path
) -> None:
    async with running_training(broker, tmp_path) as training, http_client(training.service) as client:
        await training.publish(state(of=mixed(TRAINER)), *[event(i) for i in range(250)])
        await training.wait_until_learned(249)
        [asked] = await training.until(lambda: [r.data for r in training.published(RunRequested) if r.data.data_set])
        artifact, store = Artifact.of(fitted()), ArtifactStore((tmp_path / "artifacts").as_uri())
        uri = store.put(store.name("market", "pytorch-0@199", artifact.sha256, "onnx"), artifact.data)
        stored = StoredModel(uri=uri, sha256=artifact.sha256, size=artifact.size, format="onnx")

        running = (await client.get("/v1/loops/market/runs")).json()["runs"][-1]
        learned = asked.data_set.model_copy(update={"digest": "d" * 64, "rows": 200}) if asked.data_set else None
        trained = TrainedModel(stored, learned, {"accuracy": 0.9}, 1.5, "pytorch")
        await training.supervisor.client.take_model("market", asked.run, trained)
        done = (await client.get("/v1/loops/market/runs")).json()["runs"][-1]

        assert (running["state"], running["data_set"]["name"]) == ("running", "market@0..199#1")
        assert (running["data_set"]["digest"], running["trainer"], running["metrics"]) == (None, "pytorch", {})
        assert (done["state"], done["outcomes"], done["seconds"]) == ("trained", 200, 1.5)
        assert (done["data_set"]["digest"], done["data_set"]["rows"]) == ("d" * 64, 200)
        assert done["metrics"] == {"accuracy": 0.9}


async def test_a_run_requested_before_any_outcome_waits_for_the_first_label(
    broker: MemoryBroker, tmp_path: Path
) -> None:
    await broker.append("registry.loop_state.v1", b"market", state().encode())
    async with running_training(broker, tmp_path) as training, http_client(training.service) as client:
        answer = await client.post("/v1/loops/market/runs", headers=JSON)

        assert answer.status_code == 202
        assert (answer.json()["run"], answer.json()["state"]) == (None, "waiting")
        assert "first label" in answer.json()["detail"]


async def test_a_partition_is_opened_though_the_worker_exits_while_the_broker_answers(tmp_path: Path) -> None:
    workers, requested, answered = Workers(), asyncio.Event(), asyncio.Event()

    class Slow(MemoryEngine):
        async def end_offset(self, topic: Topic, partition: int) -> int:
            requested.set()
            await answered.wait()
            return await super().end_offset(topic, partition)

    engine = Slow(MemoryBroker(partitions=1), "training")
    logs = KnownLoops(), MemoryRunLog(), MemorySearchLog()
    supervisor = WorkerSupervisor(TrainingSettings(data=tmp_path), *logs, engine, WITHOUT_KEYS, workers.start)
    async with supervisor:
        opening = asyncio.create_task(supervisor.open(0))
        await requested.wait()

        await workers.all[0].end()
        await until(lambda: len(workers.all) == 2 and supervisor.not_ready() is None)
        answered.set()

        assert (await asyncio.wait_for(opening, 10)).next_offset == 0
