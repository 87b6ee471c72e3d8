"""When a search for better parameters is due, and what follows from one that has found some."""

from __future__ import annotations

import pickle
from typing import Any

from tests.training.training_harness import dependencies, feed, losses, make_learner, of, spec, state

from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search import SearchRequested
from everloop_schemas.search_spec import ParameterRange
from everloop_schemas.training import RunFinished, RunRequested
from everloop_training.domain.search_reply import MIN_OUTCOMES
from everloop_training.worker.learners.loop_learner import LoopLearner

L2 = {"models.0.l2": {"log": [0.0001, 1.0]}}
LOGISTIC = {"estimator": "river.linear_model.LogisticRegression", "scale": True}
TREE = {"preset": "hoeffding_tree"}


def searched(every: int = 200, models: tuple[dict[str, Any], ...] = (LOGISTIC,), **search: Any) -> Any:
    """A loop whose models are searched."""
    return spec(models=models, search={"space": L2, "every": every, "trials": 20, **search})


def requests(learner: LoopLearner) -> list[SearchRequested]:
    return of(SearchRequested, learner.take_events())


def fed(learner: LoopLearner, stop: int, start: int = 0, step: int = 50) -> list[SearchRequested]:
    """What is requested while a learner learns these outcomes."""
    found = list[SearchRequested]()
    for i in range(start, stop, step):
        feed(learner, i, min(i + step, stop))
        found += requests(learner)
    return found


def test_a_search_is_due_after_every_so_many_outcomes() -> None:
    learner = make_learner(state(of=searched(200, window=300)))

    first, second, third = fed(learner, 650)

    assert [s.data.data_set.name for s in (first, second, third)] == [
        "market@0..199#1",
        "market@100..399#1",
        "market@300..599#1",
    ]
    assert (first.data.key, first.causationid, first.data.index) == ("search/0/199", "o199-0", 0)
    assert (first.data.metric, first.data.trials, first.data.budget_s) == ("accuracy", 20, 600.0)
    assert first.data.space == {"l2": ParameterRange(log=(0.0001, 1.0))}
    assert len({s.data.seed for s in (first, second, third)}) == 3
    assert len({s.id for s in (first, second, third)}) == 3


def test_each_model_that_the_space_names_is_searched_and_features_go_with_the_first() -> None:
    space = {"models.1.max_depth": [2, 10]}
    learner = make_learner(state(of=searched(200, (LOGISTIC, TREE), space=space, features=4)))

    first, second = fed(learner, 200)

    assert (first.data.index, first.data.space, first.data.features) == (0, {}, 4)
    assert (second.data.index, list(second.data.space), second.data.features) == (1, ["max_depth"], 0)
    assert second.data.model == ModelSpec(preset="hoeffding_tree")


def test_outcomes_that_are_not_learned_make_no_search_due() -> None:
    learner = make_learner(state(of=searched(100)))
    feed(learner, 0, 100)

    assert len(requests(learner)) == 1
    feed(learner, 100, 150, label=None, rejected=True)
    assert requests(learner) == []


def test_the_log_learned_again_makes_the_same_requests_and_none_twice() -> None:
    whole = fed(make_learner(state(of=searched(200))), 650)

    again = make_learner(state(of=searched(200)))
    assert fed(again, 650) == whole
    adopted = make_learner(state(of=searched(200)))
    adopted.searches.adopt(whole[:2])
    assert fed(adopted, 650) == whole[2:]


def test_a_learner_that_catches_up_requests_the_last_search_only() -> None:
    whole = fed(make_learner(state(of=searched(100))), 650)
    learner = make_learner(state(of=searched(100)))
    learner.live = False
    assert fed(learner, 650) == []

    restored: LoopLearner = pickle.loads(pickle.dumps(learner))
    restored.attach(dependencies())
    restored.live = True

    assert requests(restored) == whole[-1:]
    assert requests(restored) == []


def test_a_snapshot_goes_on_counting() -> None:
    learner = make_learner(state(of=searched(200)))
    before = fed(learner, 330)

    restored: LoopLearner = pickle.loads(pickle.dumps(learner))
    restored.attach(dependencies())
    restored.live = True

    assert before + fed(restored, 650, start=330) == fed(make_learner(state(of=searched(200))), 650)


def test_a_person_may_request_a_search_once_there_are_enough_outcomes() -> None:
    learner = make_learner(state(of=searched(1_000)))
    feed(learner, 0, MIN_OUTCOMES - 1)
    assert learner.searches.request(0, "k", "to see") is None
    feed(learner, MIN_OUTCOMES - 1, 150)

    search = learner.searches.request(0, "k", "to see")

    assert search is not None
    assert (search.data.key, search.data.reason, search.data.data_set.end) == ("manual/k", "to see", 149)
    assert search == learner.searches.request(0, "k", "to see")


def test_the_line_of_found_parameters_learns_what_was_searched_and_is_judged_on_what_comes() -> None:
    learner = make_learner(state(of=searched(200)))
    [search] = fed(learner, 250)
    better = ModelSpec.model_validate({**LOGISTIC, "l2": 0.05})

    run = learner.runs.start_tuned(search, better, "trial 7")
    feed(learner, 250, 300)
    events = learner.take_events()

    assert run is not None
    assert (run.data.trigger, run.data.line, run.data.model) == ("search", "logistic-regression.2-0", better)
    assert (run.data.start_offset, run.data.requested_offset, run.causationid) == (0, 249, search.id)
    assert learner.runs.start_tuned(search, better, "trial 7") == run
    [finished] = of(RunFinished, [e for e in events if isinstance(e, RunFinished) and e.data.run == run.data.run])
    assert finished.data.state == "trained"
    assert sorted(losses(events)[run.data.line]) == [*range(250, 300)]


def test_found_parameters_displace_no_answer_to_a_drift_and_begin_no_cooldown() -> None:
    learner = make_learner(state(of=searched(200)))
    [search] = fed(learner, 250)
    manual = learner.runs.start_manual("k", "why")
    counted = learner.triggers.outcomes_at_run
    feed(learner, 250, 300)

    tuned = learner.runs.start_tuned(search, ModelSpec.model_validate({**LOGISTIC, "l2": 0.05}), "trial 7")

    assert manual is not None
    assert tuned is not None
    assert {manual.data.line, tuned.data.line} < learner.lines.learning.keys()
    assert learner.triggers.outcomes_at_run == counted
    later = learner.runs.start_tuned(
        search.copy_with(data=search.data.model_copy(update={"search": "next"})),
        ModelSpec.model_validate({**LOGISTIC, "l2": 0.5}),
        "trial 9",
    )
    assert later is not None
    assert tuned.data.line not in learner.lines.learning
    assert {manual.data.line, later.data.line} < learner.lines.learning.keys()


def test_a_tuned_line_is_rebuilt_from_the_log_and_ends_with_its_model_or_its_search() -> None:
    learner = make_learner(state(of=searched(200)))
    [search] = fed(learner, 250)
    tuned = learner.runs.start_tuned(search, ModelSpec.model_validate({**LOGISTIC, "l2": 0.05}), "trial 7")
    assert tuned is not None

    again = make_learner(state(of=searched(200)))
    again.runs.adopt([tuned])
    again.searches.adopt([search])
    assert fed(again, 300) == []
    assert tuned.data.line in again.lines.learning

    again.on_loop_state(state(1, of=searched(200, (TREE,), space={"models.0.max_depth": [1, 5]})))
    assert tuned.data.line not in again.lines.learning
    learner.on_loop_state(state(1))  # without a search
    assert tuned.data.line not in learner.lines.learning


def test_no_line_starts_for_a_model_that_the_loop_does_not_have_or_has_already() -> None:
    learner = make_learner(state(of=searched(200)))
    [search] = fed(learner, 250)

    assert learner.runs.start_tuned(search, ModelSpec.model_validate(LOGISTIC), "the same") is None
    assert learner.runs.start_tuned(search, ModelSpec(preset="hoeffding_tree"), "another") is None


def test_the_next_search_begins_with_the_parameters_of_the_champion() -> None:
    learner = make_learner(state(of=searched(200)))
    [search] = fed(learner, 250)
    better = ModelSpec.model_validate({**LOGISTIC, "l2": 0.05})
    tuned = learner.runs.start_tuned(search, better, "trial 7")
    assert tuned is not None

    learner.on_loop_state(state(1, f"{tuned.data.line}@249", of=searched(200)))
    [following] = fed(learner, 450, start=250)

    assert following.data.model == better


def test_parameters_of_a_batch_line_are_trained_on_the_last_outcomes_with_the_next_one() -> None:
    forest = {"estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 10}
    space = {"models.1.n_estimators": [10, 50]}
    learner = make_learner(state(of=searched(600, (LOGISTIC, forest), space=space)))
    [search] = fed(learner, 650)
    better = ModelSpec.model_validate({**forest, "n_estimators": 40})

    run = learner.runs.start_tuned(search, better, "trial 7")
    feed(learner, 650, 651)

    assert run is not None
    trainings = [r for r in of(RunRequested, learner.take_events()) if r.data.line == run.data.line]
    assert [r.data.data_set.name for r in trainings if r.data.data_set] == ["market@0..650#1"]
    assert trainings[0].data.model == better
