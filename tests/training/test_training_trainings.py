"""Batch lines and lines of trainers elsewhere: when they are trained, and how they take what was trained."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from tests.builders.loops import live_version, loop_state
from tests.training.predicting_lines import BATCH, BATCH_LINE, TRAINER, end_training, fitted, mixed, open_trainings
from tests.training.training_harness import (
    LOGISTIC,
    MemoryArtifacts,
    alert,
    dependencies,
    feed,
    losses,
    make_learner,
    of,
    spec,
    state,
)

from everloop_schemas.envelope import Event
from everloop_schemas.training import ChallengeUpdated, ModelTrained, RunFinished, RunRequested
from everloop_training.worker.learners import trainings
from everloop_training.worker.learners.loop_learner import LoopLearner

ONLINE = "logistic-regression-0"


@pytest.fixture
def artifacts() -> MemoryArtifacts:
    return MemoryArtifacts()


def asked(events: list[Event]) -> list[tuple[str, str, int, int]]:
    """Line, trigger, first and last offset of the data sets that were asked for."""
    runs = [r.data for r in of(RunRequested, events) if r.data.data_set]
    return [(r.line, r.trigger, r.data_set.start, r.data_set.end) for r in runs if r.data_set]


def test_trainings_become_rarer_until_they_come_each_every_and_learn_the_last_window() -> None:
    learner = make_learner(state(of=mixed({**BATCH, "window": 1500, "every": "1000 outcomes"})))
    feed(learner, 0, 3100)

    events = learner.take_events()

    assert asked(events) == [
        (BATCH_LINE, "outcomes", 0, 499),
        (BATCH_LINE, "outcomes", 0, 999),
        (BATCH_LINE, "outcomes", 500, 1999),
        (BATCH_LINE, "outcomes", 1500, 2999),
    ]
    [*_, last] = of(RunRequested, events)
    assert last.data.data_set is not None
    assert (last.data.key, last.data.data_set.name) == (f"outcomes/{BATCH_LINE}/2999", "market@1500..2999#1")


def test_a_line_that_is_trained_often_is_trained_that_often_from_its_start() -> None:
    learner = make_learner(state(of=mixed({**BATCH, "every": "100 outcomes"})))
    feed(learner, 0, 350)

    assert [end for *_, end in asked(learner.take_events())] == [99, 199, 299]


def test_a_line_predicts_nothing_before_its_first_model_and_then_every_outcome_after_it(
    artifacts: MemoryArtifacts,
) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    [run] = open_trainings(learner)
    before = losses(learner.take_events())

    reply = end_training(learner, run, artifacts.put("trained", fitted()))
    taken = learner.take_events()
    feed(learner, 250, 350)

    assert BATCH_LINE not in before
    assert reply.finished is not None
    assert reply.finished.data.offset == 249
    assert [e.type for e in taken] == [ModelTrained.type_name(), RunFinished.type_name()]
    assert sorted(losses(learner.take_events())[BATCH_LINE]) == list(range(250, 350))


def test_the_end_of_a_training_says_what_was_trained_on_what_and_by_whom(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    learner.take_events()
    [run] = open_trainings(learner)

    end_training(learner, run, artifacts.put("trained", fitted()))

    events = learner.take_events()
    [version], [end] = of(ModelTrained, events), of(RunFinished, events)
    assert (version.data.version, version.data.run) == (f"{BATCH_LINE}@249", run.data.run)
    assert version.data.reason == "trained"
    assert version.data.manifest.data_set == end.data.data_set
    assert end.data.data_set is not None
    assert (end.data.data_set.name, end.data.data_set.rows) == ("market@0..199#1", 7)
    assert (end.data.metrics, end.data.seconds, end.data.trainer) == ({"accuracy": 0.8}, 1.5, "sklearn")
    assert end.data.artifact is not None
    assert end.data.artifact.uri == f"memory://{BATCH_LINE}@249"


def test_the_first_model_of_the_specs_first_line_is_the_loops_first_version(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=spec(models=[BATCH, LOGISTIC])), artifacts)
    feed(learner, 0, 450)
    for run in open_trainings(learner)[-1:]:
        end_training(learner, run, artifacts.put("first", fitted()))
    feed(learner, 450, 650)
    for run in open_trainings(learner)[-1:]:
        end_training(learner, run, artifacts.put("second", fitted(seen=400)))

    versions = of(ModelTrained, learner.take_events())

    assert [(v.data.version, v.data.reason) for v in versions] == [
        (f"{BATCH_LINE}@449", "initial"),
        (f"{BATCH_LINE}@649", "trained"),
    ]


def test_the_run_of_the_line_ends_once_its_model_has_predicted_thirty_outcomes(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    learner.take_events()
    end_training(learner, open_trainings(learner)[0], artifacts.put("trained", fitted()))
    learner.take_events()
    feed(learner, 250, 280)

    [end] = of(RunFinished, learner.take_events())

    assert (end.data.line, end.data.run) == (BATCH_LINE, learner.lines.runs[BATCH_LINE].data.run)
    assert (end.data.offset, end.data.outcomes) == (279, 30)


def test_a_training_that_takes_long_still_ends_and_only_the_newest_of_the_others_waits(
    artifacts: MemoryArtifacts,
) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 850)
    events = learner.take_events()
    open_ends = [r.data.requested_offset for r in open_trainings(learner)]

    reply = end_training(learner, open_trainings(learner)[0], artifacts.put("slow", fitted()))

    superseded = [e.data for e in of(RunFinished, events) if e.data.state == "failed"]
    assert len(asked(events)) == 4
    assert open_ends == [199, 799]
    assert [s.reason.startswith("superseded by run") for s in superseded if s.reason] == [True, True]
    assert reply.finished is not None
    assert reply.finished.data.state == "trained"
    assert [r.data.requested_offset for r in open_trainings(learner)] == [799]


def test_a_model_on_newer_data_supersedes_what_is_still_open(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 450)
    older, newer = open_trainings(learner)
    end_training(learner, newer, artifacts.put("newer", fitted()))

    late = end_training(learner, older, artifacts.put("older", fitted(flipped=True)))
    feed(learner, 450, 500)

    assert late.finished is not None
    assert late.finished.data.reason == f"superseded by run {newer.data.run}"
    assert sum(losses(learner.take_events())[BATCH_LINE].values()) < 10


def test_a_training_that_ends_twice_has_the_end_that_came_first(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    [run] = open_trainings(learner)
    first = end_training(learner, run, artifacts.put("one", fitted()))
    learner.take_events()

    again = [
        end_training(learner, run, artifacts.put("two", fitted(flipped=True))),
        learner.fail_run(run.data.run, "too late"),
    ]

    assert [reply.finished for reply in again] == [first.finished] * 2
    assert learner.take_events() == []


def test_a_training_that_fails_leaves_the_line_its_model(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    end_training(learner, open_trainings(learner)[0], artifacts.put("good", fitted()))
    feed(learner, 250, 450)
    learner.take_events()

    reply = learner.fail_run(open_trainings(learner)[0].data.run, "out of memory")
    [end] = of(RunFinished, learner.take_events())
    feed(learner, 450, 500)

    assert reply.finished == end
    assert (end.data.state, end.data.reason) == ("failed", "out of memory")
    assert sorted(losses(learner.take_events())[BATCH_LINE]) == list(range(450, 500))


def test_a_run_that_nobody_knows_has_no_end(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 10)

    assert learner.fail_run("nothing", "why").finished is None


def test_a_store_that_is_away_or_full_lets_the_trainer_wait_and_changes_nothing(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    learner.take_events()
    [run] = open_trainings(learner)
    stored, replies = artifacts.put("trained", fitted()), []

    for artifacts.away, artifacts.full in ((True, False), (False, True), (False, False)):
        replies.append(end_training(learner, run, stored))

    assert [(r.finished is None, r.behind) for r in replies] == [(True, True), (True, True), (False, False)]
    assert len(learner.take_events()) == 2


def test_bytes_that_are_not_those_announced_fail_the_training(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    stored = artifacts.put("trained", fitted())
    artifacts.stored["trained"] = b"something else"

    reply = end_training(learner, open_trainings(learner)[0], stored)

    assert reply.finished is not None
    assert reply.finished.data.state == "failed"
    assert "cannot be loaded" in (reply.finished.data.reason or "")


def drifted(artifacts: MemoryArtifacts, **fields: Any) -> LoopLearner:
    """A loop with a learning champion, a batch line and a trainer's, whose concept changed at 601."""
    learner = make_learner(state(of=mixed({**BATCH, "every": "400 outcomes"}, TRAINER, **fields)), artifacts)
    feed(learner, 0, 600)
    feed(learner, 600, 700, flipped=True)
    learner.take_events()
    return learner


def test_a_drift_trains_every_line_on_what_came_after_the_change_once_there_is_enough(
    artifacts: MemoryArtifacts,
) -> None:
    learner = drifted(artifacts)

    fresh = learner.drift_runs.on_drift(alert(690, 601))
    at_once = learner.take_events()
    feed(learner, 700, 800, flipped=True)
    too_early = asked(learner.take_events())
    feed(learner, 800, 1210, flipped=True)
    events = learner.take_events()

    assert fresh is not None
    assert fresh.data.data_set is None
    assert asked(at_once) == too_early == []
    assert asked(events)[:2] == [(BATCH_LINE, "drift", 601, 800), ("pytorch-0", "drift", 601, 800)]
    assert [r.causationid for r in of(RunRequested, events)][:2] == ["alert", "alert"]
    assert sorted(asked(events)[2:]) == [
        (BATCH_LINE, "outcomes", 701, 1000),
        ("pytorch-0", "outcomes", 701, 1000),
        ("pytorch-0", "outcomes", 901, 1200),
    ]


def test_a_drift_that_is_found_late_trains_at_once_and_supersedes_what_is_open(artifacts: MemoryArtifacts) -> None:
    learner = drifted(artifacts)
    feed(learner, 700, 850, flipped=True)
    learner.take_events()
    stale = [r.data.run for r in open_trainings(learner)]

    learner.drift_runs.on_drift(alert(840, 601))
    feed(learner, 850, 851, flipped=True)

    events = learner.take_events()
    assert asked(events) == [(BATCH_LINE, "drift", 601, 850), ("pytorch-0", "drift", 601, 850)]
    assert {e.data.run for e in of(RunFinished, events)} >= set(stale)
    assert len(open_trainings(learner)) == 2


def test_a_drift_under_a_batch_champion_is_answered_by_its_training(artifacts: MemoryArtifacts) -> None:
    learner = drifted(artifacts)
    learner.on_loop_state(state(1, f"{BATCH_LINE}@590", of=learner.state.data.spec))
    feed(learner, 700, 750, flipped=True)

    early = learner.drift_runs.on_drift(alert(740, 601))
    feed(learner, 750, 801, flipped=True)

    events = learner.take_events()
    answer = next(r for r in of(RunRequested, events) if r.data.key == "drift/alert")
    assert early is None
    assert (answer.data.line, answer.data.trigger, answer.causationid) == (BATCH_LINE, "drift", "alert")
    assert (BATCH_LINE, "drift", 601, 800) in asked(events)
    assert learner.progress.waiting_alert is None
    assert set(learner.lines.learning) == {ONLINE, BATCH_LINE, "pytorch-0"}


def test_a_person_who_asks_for_a_run_gets_a_training_of_a_batch_champion(artifacts: MemoryArtifacts) -> None:
    learner = drifted(artifacts)
    learner.on_loop_state(state(1, f"{BATCH_LINE}@590", of=learner.state.data.spec))

    run, again = (learner.runs.start_manual("k", "why not") for _ in range(2))
    other = learner.runs.start_manual("another", "why not")

    assert run is not None
    assert (run.data.trigger, run.data.line, run.data.key) == ("manual", BATCH_LINE, "manual/k")
    assert run.data.data_set is not None
    assert (run.data.data_set.start, run.data.data_set.end) == (400, 699)
    assert run == again == other


def serving_batch(artifacts: MemoryArtifacts) -> tuple[LoopLearner, str]:
    """A loop that serves version 300 of its batch line, whose next training is about to end; and the sha256 served."""
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    served = artifacts.put("served", fitted())
    end_training(learner, open_trainings(learner)[0], served)
    feed(learner, 250, 301)
    champion = live_version(f"{BATCH_LINE}@300", uri="memory://served", sha256=served.sha256, size=served.size)
    learner.on_loop_state(loop_state(learner.state.data.spec, champion=champion, sequence=1))
    feed(learner, 301, 420)
    learner.take_events()
    return learner, served.sha256


def test_a_batch_champion_is_refreshed_when_its_model_has_changed_and_predicted_enough(
    artifacts: MemoryArtifacts,
) -> None:
    learner, served = serving_batch(artifacts)
    end_training(learner, open_trainings(learner)[0], artifacts.put("newer", fitted(seen=500)))
    learner.take_events()

    feed(learner, 420, 449)
    early = of(ModelTrained, learner.take_events())
    feed(learner, 449, 700)

    versions = of(ModelTrained, learner.take_events())
    assert early == []
    assert [(v.data.version, v.data.reason) for v in versions] == [(f"{BATCH_LINE}@449", "refresh")]
    assert versions[0].data.sha256 != served
    assert versions[0].data.importance is not None


def test_a_pinned_loop_is_trained_and_not_refreshed(artifacts: MemoryArtifacts) -> None:
    learner, _ = serving_batch(artifacts)
    data = learner.state.data.model_copy(update={"pinned": True, "sequence": 2})
    learner.on_loop_state(learner.state.model_copy(update={"data": data}))
    end_training(learner, open_trainings(learner)[0], artifacts.put("newer", fitted(seen=500)))
    feed(learner, 420, 620)

    events = learner.take_events()
    assert [v.data.reason for v in of(ModelTrained, events)] == ["trained"]
    assert asked(events)


def test_two_models_at_the_same_offset_are_one_version_and_the_later_one_predicts(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 450)
    learner.take_events()
    for number, run in enumerate(open_trainings(learner)):
        end_training(learner, run, artifacts.put(f"model-{number}", fitted(flipped=number == 0)))
    taken = learner.take_events()
    feed(learner, 450, 500)

    assert [v.data.version for v in of(ModelTrained, taken)] == [f"{BATCH_LINE}@449"]
    assert [e.data.state for e in of(RunFinished, taken)] == ["trained", "trained"]
    assert sum(losses(learner.take_events())[BATCH_LINE].values()) < 10


def test_the_losses_of_a_line_name_the_run_of_its_model(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    learner.take_events()
    [run] = open_trainings(learner)
    end_training(learner, run, artifacts.put("trained", fitted()))
    feed(learner, 250, 300)

    [update] = of(ChallengeUpdated, learner.take_events())
    assert {line.line: line.run for line in update.data.lines}[BATCH_LINE] == run.data.run


def test_a_line_whose_model_leaves_the_spec_ends_and_so_does_its_training(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    learner.take_events()
    [run] = open_trainings(learner)

    learner.on_loop_state(state(1, of=mixed({**BATCH, "max_iter": 50}), revision=2))
    feed(learner, 250, 251)
    events = learner.take_events()
    reply = end_training(learner, run, artifacts.put("late", fitted()))

    ends = {e.data.run: e.data for e in of(RunFinished, events)}
    assert ends[run.data.run].state == "failed"
    assert ends[run.data.run].reason == "its line is no longer at work"
    assert reply.finished is not None
    assert reply.finished.data == ends[run.data.run]
    assert set(learner.lines.learning) == {ONLINE, "hist-gradient-boosting-classifier-250"}


def test_a_champion_whose_model_left_the_spec_is_trained_as_long_as_it_serves(artifacts: MemoryArtifacts) -> None:
    learner, _ = serving_batch(artifacts)
    data = learner.state.data.model_copy(update={"spec": spec(), "sequence": 2})
    learner.on_loop_state(learner.state.model_copy(update={"data": data}))
    feed(learner, 420, 640)

    assert [line for line, *_ in asked(learner.take_events())] == [BATCH_LINE]


def test_a_model_added_later_learns_the_outcomes_before_and_predicts_those_after(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(), artifacts)
    feed(learner, 0, 1000)
    learner.on_loop_state(state(1, of=mixed(BATCH), revision=2))
    feed(learner, 1000, 1200)

    events = learner.take_events()

    initial = [r.data for r in of(RunRequested, events) if r.data.trigger == "initial"][-1]
    assert (initial.line, initial.start_offset) == ("hist-gradient-boosting-classifier-1000", 1000)
    assert asked(events) == [("hist-gradient-boosting-classifier-1000", "outcomes", 900, 1199)]


def whole(artifacts: MemoryArtifacts) -> tuple[LoopLearner, list[Event], bytes]:
    """A loop over 1,400 outcomes with two trained lines, a drift, a swap and a failure; a snapshot in the middle."""
    learner, events = make_learner(state(of=mixed(BATCH, TRAINER)), artifacts), list[Event]()
    snapshot = b""
    for start in range(0, 1400, 50):
        feed(learner, start, start + 50, flipped=start >= 800)
        if start == 950 and (answer := learner.drift_runs.on_drift(alert(940, 801))):
            events.append(answer)
        if start in (250, 450, 1100):
            for n, run in enumerate(open_trainings(learner)):
                stored = artifacts.put(f"{start}-{n}", fitted(flipped=start > 800, seen=100 + start + n))
                end_training(learner, run, stored)
        if start == 650:
            learner.fail_run(open_trainings(learner)[0].data.run, "out of memory")
        events += learner.take_events()
        if start == 600:
            snapshot = pickle.dumps(learner)
    return learner, events, snapshot


@pytest.mark.parametrize("from_snapshot", [True, False])
def test_the_log_learned_again_gives_the_same_losses_and_the_same_runs(
    artifacts: MemoryArtifacts, from_snapshot: bool
) -> None:
    first, events, snapshot = whole(artifacts)

    again: LoopLearner = pickle.loads(snapshot) if from_snapshot else make_learner(first.state, artifacts)
    again.attach(dependencies(artifacts))
    begin = 650 if from_snapshot else 0
    again.runs.adopt(of(RunRequested, events), of(RunFinished, events))
    repeated = list[Event]()
    for start in range(begin, 1400, 50):
        feed(again, start, start + 50, flipped=start >= 800)
        repeated += again.take_events()
    again.live = True
    repeated += again.take_events()

    seen = {line: {o: x for o, x in of_line.items() if o >= begin} for line, of_line in losses(events).items()}
    assert losses(repeated) == {line: of_line for line, of_line in seen.items() if of_line}
    assert of(RunRequested, repeated) == []
    assert {e.id for e in repeated if isinstance(e, RunFinished)} <= {e.id for e in events}
    assert [r.data.run for r in open_trainings(again)] == [r.data.run for r in open_trainings(first)]
    assert {n: s.due for n, s in again.trainings.schedules.items()} == {
        n: s.due for n, s in first.trainings.schedules.items()
    }


def test_an_end_that_came_on_the_log_after_the_snapshot_is_taken_at_its_offset(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    learner.take_events()
    snapshot = pickle.dumps(learner)
    feed(learner, 250, 300)
    end_training(learner, open_trainings(learner)[0], artifacts.put("trained", fitted()))
    events = learner.take_events()

    restored: LoopLearner = pickle.loads(snapshot)
    restored.attach(dependencies(artifacts))
    restored.runs.adopt(learner.runs.requests.values(), of(RunFinished, events))
    feed(restored, 250, 350)

    assert sorted(losses(restored.take_events())[BATCH_LINE]) == list(range(300, 350))


def test_a_model_that_was_deleted_from_the_store_since_is_passed_over(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(of=mixed(BATCH)), artifacts)
    feed(learner, 0, 250)
    end_training(learner, open_trainings(learner)[0], artifacts.put("first", fitted()))
    feed(learner, 250, 450)
    end_training(learner, open_trainings(learner)[-1], artifacts.put("second", fitted(seen=400)))
    events = learner.take_events()
    del artifacts.stored[f"{BATCH_LINE}@249"]

    again = make_learner(learner.state, artifacts)
    again.live = False
    again.runs.adopt(of(RunRequested, events), of(RunFinished, events))
    feed(again, 0, 500)

    assert sorted(losses(again.take_events())[BATCH_LINE]) == list(range(450, 500))
    assert again.lines.learning[BATCH_LINE].caught_up


def test_only_the_last_trainings_of_a_line_are_remembered(
    artifacts: MemoryArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "TRAININGS_KEPT", 3)
    learner = make_learner(state(of=mixed({**BATCH, "every": "20 outcomes"})), artifacts)
    for start in range(0, 200, 20):
        feed(learner, start, start + 20)
        for run in open_trainings(learner):
            end_training(learner, run, artifacts.put(f"at-{start}", fitted(seen=100 + start)))
    events = learner.take_events()

    again: LoopLearner = pickle.loads(pickle.dumps(learner))
    again.attach(dependencies(artifacts))
    again.runs.adopt(of(RunRequested, events), of(RunFinished, events))
    feed(again, 200, 215)

    assert len(learner.trainings.begun[BATCH_LINE]) == len(learner.trainings.ends) == 3
    assert len([r for r in learner.runs.requests.values() if r.data.data_set]) == 3
    assert of(RunRequested, again.take_events()) == []
