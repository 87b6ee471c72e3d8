"""Training opens what is sealed, learns it as if it were in clear, writes none of it, and leaves out who was erased."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.builders.personal import bytes_below, personal_settings, vault_of
from tests.builders.running import http_client
from tests.training.personal_outcomes import clear, entity, found_in, personal_state, sealed
from tests.training.training_harness import dependencies, losses, make_learner, of, running_training, state

from everloop_learning.loops import KnownLoops
from everloop_learning.outcome import Outcome
from everloop_models import save
from everloop_models.model import OnlineModel
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.training import ChallengeUpdated, DataSet, LineFailed, ModelTrained, RunRequested
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position
from everloop_shared.personal import Vault
from everloop_training.adapters.data_sets import DataSets, RowWriter
from everloop_training.adapters.personal import PersonalOutcomes
from everloop_training.errors import NoOutcomes
from everloop_training.worker.learners.learning_line import LearningLine
from everloop_training.worker.learners.loop_learner import LoopLearner
from everloop_training.worker.learners.recent_outcomes import OPENED_S, RecentOutcomes
from everloop_training.worker.snapshots import PartitionState, Snapshots

LINE = "logistic-regression-0"
ERASED = entity(5)
LEFT_OUT = [i for i in range(100) if entity(i) == ERASED]


async def on_the_log(vault: Vault, stop: int) -> MemoryBroker:
    broker = MemoryBroker(partitions=1)
    for one in sealed(vault, 0, stop):
        await broker.append(one.topic.name, one.key(), one.encode())
    return broker


async def learned(broker: MemoryBroker, folder: Path, keys: dict[str, Any], stop: int) -> list[Any]:
    """What a service with a new folder publishes once it has learned the log."""
    known = len(broker.events(ChallengeUpdated.topic)), len(broker.events(ModelTrained.topic))
    broker.committed.clear()
    async with running_training(broker, folder, **keys) as training:
        await training.publish(personal_state())
        await training.until(
            lambda: any(stop - 1 in e.data.offsets for e in training.published(ChallengeUpdated)[known[0] :])
        )
        return [*training.published(ChallengeUpdated)[known[0] :], *training.published(ModelTrained)[known[1] :]]


def learner_of(outcomes: list[Outcome]) -> LoopLearner:
    learner = make_learner(personal_state())
    for outcome in outcomes:
        learner.learn(outcome)
    return learner


@pytest.mark.app
async def test_what_is_sealed_is_learned_as_if_it_were_in_clear_and_written_nowhere(tmp_path: Path) -> None:
    keys = personal_settings(tmp_path)
    broker = await on_the_log(vault_of(tmp_path), 100)

    events = await learned(broker, tmp_path / "data", {**keys, "snapshot_outcomes": 10}, 100)

    in_clear = learner_of([Outcome.from_event(clear(i), i) for i in range(100)])
    made = in_clear.take_events()
    assert losses(events) == losses(made)
    assert [e.data.sha256 for e in of(ModelTrained, events)] == [e.data.sha256 for e in of(ModelTrained, made)]
    written = bytes_below(tmp_path / "data") + b"\n".join(e.encode() for e in events)
    assert (tmp_path / "data" / "training" / "snapshots" / "partition-0.snapshot").exists()
    assert found_in(written, range(100)) == []
    assert found_in(clear(7).encode(), range(100)) == [7], "the search finds what is in clear"


@pytest.mark.app
async def test_who_was_erased_is_left_out_however_often_the_log_is_learned_and_nothing_else_changes(
    tmp_path: Path,
) -> None:
    keys, vault = personal_settings(tmp_path), vault_of(tmp_path)
    broker = await on_the_log(vault, 100)
    before = await learned(broker, tmp_path / "before", keys, 100)
    runs = broker.events(RunRequested.topic)
    vault.erase("market", ERASED)
    vault.seal_now("market", ERASED, {"features": {"b": 1.0}})  # the same entity comes again: a new person

    after = await learned(broker, tmp_path / "after", keys, 100)
    again = await learned(broker, tmp_path / "again", keys, 100)

    without = [Outcome.from_event(clear(i), i)._replace(erased=i in LEFT_OUT) for i in range(100)]
    made = learner_of(without).take_events()
    assert losses(after) == losses(again) == losses(made)
    assert [e.data.sha256 for e in of(ModelTrained, after)] == [e.data.sha256 for e in of(ModelTrained, again)]
    assert losses(after)["0"] == losses(before)["0"], "what follows from labels alone stays as it was"
    assert sorted(losses(after)[LINE]) == [i for i in range(100) if i not in LEFT_OUT]
    assert {e.data.run for e in broker.events(RunRequested.topic)} == {e.data.run for e in runs}


async def test_a_data_set_names_the_same_range_after_an_erasure_and_lacks_the_person(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    broker, loops = await on_the_log(vault, 100), KnownLoops()
    loops.apply(personal_state())
    data_sets = DataSets(loops, broker.engine("training"), personal=PersonalOutcomes(vault))

    whole, before = await data_sets.latest("market", 50), RowWriter(BytesIO())
    await data_sets.write(whole, before)
    vault.erase("market", ERASED)
    rest, file = RowWriter(file := BytesIO()), file
    found = await data_sets.write(whole, rest)

    kept = [i for i in range(50, 100) if i not in LEFT_OUT]
    assert await data_sets.latest("market", 50) == whole
    assert (before.erased, rest.erased, found.rows) == (0, 50 - len(kept), len(kept))
    assert found_in(file.getvalue(), range(100)) == kept
    with pytest.raises(NoOutcomes, match="1 are of erased persons"):
        await data_sets.write(DataSet(loop="market", start=5, end=5, revision=1), RowWriter(BytesIO()))


async def test_changed_values_are_left_out_as_those_of_erased_persons_are(tmp_path: Path) -> None:
    vault = vault_of(tmp_path)
    [other, own] = sealed(vault, 4, 6)
    forged = own.copy_with(data=msgspec.structs.replace(own.data, personal=other.data.personal))

    found = await PersonalOutcomes(vault).outcomes([(_at(0), forged), (_at(1), own)])

    assert [(loop, outcome.erased) for loop, outcome in found] == [("market", True), ("market", False)]
    assert (found[1][1].features, list(found[1][1].features)) == (clear(5).data.features, ["b", "a"])


def test_a_snapshot_is_opened_with_the_key_of_its_loop_only(tmp_path: Path) -> None:
    vault, folder = vault_of(tmp_path), tmp_path / "snapshots"
    folder.mkdir()
    learner = learner_of([Outcome.from_event(clear(i), i) for i in range(20)])
    in_clear = make_learner(state())
    learners = {"market": learner, "other": in_clear}
    path = Snapshots(folder, vault=vault).write(0, PartitionState(20, 0, learners))
    path.replace(folder / "partition-0.snapshot")

    with_key = Snapshots(folder, vault=vault_of(tmp_path)).load(0, 20)
    without_keys = Snapshots(folder, vault=Vault("", None)).load(0, 20)
    vault.erase_loop("market")
    destroyed = Snapshots(folder, vault=vault_of(tmp_path)).load(0, 20)

    assert found_in(bytes_below(folder), range(20)) == []
    assert sorted(with_key.learners) == ["market", "other"]
    with_key.learners["market"].attach(dependencies())
    assert with_key.learners["market"].progress.position == 19
    assert without_keys == destroyed == PartitionState(0, 0, {})


def test_no_version_is_made_while_its_model_keeps_rows() -> None:
    many = [Outcome.from_event(clear(i), i) for i in range(60)]

    made = of(ModelTrained, learner_of(many).take_events())

    assert [e.data.version for e in made] == [f"{LINE}@32"]
    artifacts = make_learner(personal_state())
    for outcome in many[:31]:
        artifacts.learn(outcome)
    line = artifacts.lines.learning[LINE]
    assert isinstance(line, LearningLine)
    assert found_in(save(line.model).data, range(31)), "until then a model has the rows that it learned first"
    assert not line.can_be_version


def test_what_a_model_says_when_it_fails_at_personal_values_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: OnlineModel, features: Any) -> None:
        raise ValueError(f"cannot encode {features}")

    learner = learner_of([Outcome.from_event(clear(i), i) for i in range(10)])
    monkeypatch.setattr("everloop_models.encoding.Encoder.encode", fail)

    learner.learn(Outcome.from_event(clear(10), 10)._replace(opened=1.0))

    [failed, *_] = of(LineFailed, learner.take_events())
    assert found_in(failed.encode(), range(11)) == []
    assert "at offset 10" in failed.data.reason


def test_outcomes_that_were_opened_a_while_ago_are_opened_again_before_another_line_learns_them() -> None:
    recent = RecentOutcomes(0)
    for i in range(100):
        recent.add(Outcome.from_event(clear(i), i)._replace(opened=1_000.0 + i), 10**9)

    recent.expire(1_000.0 + OPENED_S + 40)

    assert (recent.complete_from, len(recent.since(0))) == (40, 60)
    recent.expire(9_999.0)
    assert (recent.complete_from, len(recent.latest_features(100))) == (100, 32)


@pytest.mark.app
async def test_without_keys_the_service_says_at_once_what_is_missing(tmp_path: Path) -> None:
    broker = await on_the_log(vault_of(tmp_path), 40)
    async with running_training(broker, tmp_path / "data") as training, http_client(training.service) as client:
        await training.publish(personal_state())
        await training.until(lambda: training.service.remarks[0]())

        ready, answer = await client.get("/readyz"), await client.get("/v1/loops/market/data-set")

        assert "EVERLOOP_PERSONAL_MASTER_KEY: market" in ready.text
        assert (answer.status_code, "EVERLOOP_PERSONAL_KEYS_URL" in answer.text) == (503, True)
        assert training.published(ModelTrained) == []


def _at(offset: int) -> Position:
    return Position(OutcomeObserved.topic.name, 0, offset)
