"""A model that was trained elsewhere challenges: it predicts each outcome, and learns none."""

from __future__ import annotations

import math
import pickle

import pytest
from tests.builders.loops import live_version, loop_state
from tests.training.predicting_lines import fitted, submission
from tests.training.training_harness import (
    MemoryArtifacts,
    alert,
    dependencies,
    feed,
    losses,
    make_learner,
    of,
    outcomes,
    spec,
    state,
)

from everloop_models import ModelPrediction
from everloop_models.formats.onnx.model import OnnxModel
from everloop_schemas.envelope import Fields
from everloop_schemas.training import LineFailed, ModelTrained, RunFinished, RunRequested
from everloop_training.worker.learners.loop_learner import LoopLearner

LINE, CHAMPION = "notebook-100", "logistic-regression-0"


@pytest.fixture
def artifacts() -> MemoryArtifacts:
    return MemoryArtifacts()


def learner_with_submission(artifacts: MemoryArtifacts, flipped: bool = False) -> LoopLearner:
    """A loop with a hundred outcomes, to which a model was submitted."""
    learner = make_learner(state(), artifacts)
    feed(learner, 0, 100)
    learner.take_events()
    stored = artifacts.put(f"{LINE}@99", fitted(flipped))
    learner.on_loop_state(state(1, submissions=[submission(stored, LINE)]))
    return learner


def test_a_submitted_model_gets_a_run_and_is_compared_from_the_next_outcome_on(artifacts: MemoryArtifacts) -> None:
    learner = learner_with_submission(artifacts)
    [run] = of(RunRequested, learner.take_events())

    feed(learner, 100, 200)

    assert (run.data.trigger, run.data.line, run.data.run) == ("submitted", LINE, f"run-of-{LINE}")
    assert (run.data.start_offset, run.data.requested_offset) == (100, 99)
    assert run.data.artifact is not None
    seen = losses(learner.take_events())
    assert sorted(seen[LINE]) == list(range(100, 200))
    assert sum(seen[LINE].values()) < 15


def test_a_model_that_was_submitted_before_any_outcome_waits_for_the_first(artifacts: MemoryArtifacts) -> None:
    stored = artifacts.put(f"{LINE}@0", fitted())
    learner = make_learner(state(1, submissions=[submission(stored, LINE, 0)]), artifacts)
    before = of(RunRequested, learner.take_events())
    feed(learner, 0, 1)
    first = of(RunRequested, learner.take_events())
    feed(learner, 1, 10)

    assert before == []
    assert [r.data.trigger for r in first] == ["initial", "submitted"]
    assert sorted(losses(learner.take_events())[LINE]) == list(range(1, 10))


def test_its_run_ends_after_thirty_outcomes_with_what_was_said_of_it(artifacts: MemoryArtifacts) -> None:
    learner = learner_with_submission(artifacts)
    feed(learner, 100, 130)

    [end] = of(RunFinished, learner.take_events())

    assert (end.data.state, end.data.line, end.data.offset, end.data.outcomes) == ("trained", LINE, 129, 30)
    assert (end.data.metrics, end.data.trainer, end.data.artifact) == ({"accuracy": 0.9}, "notebook", None)


def test_the_end_of_its_run_says_what_the_submitted_version_depends_on(artifacts: MemoryArtifacts) -> None:
    learner = learner_with_submission(artifacts)
    before = learner.state.data.submissions[0].version
    feed(learner, 100, 130)

    events = learner.take_events()

    [end] = of(RunFinished, events)
    assert end.data.version == before == f"{LINE}@99"
    assert end.data.importance is not None
    assert sum(end.data.importance.values()) == pytest.approx(1)
    assert max(end.data.importance, key=end.data.importance.__getitem__) == "a"
    assert of(ModelTrained, events) == []


def test_a_line_of_the_spec_that_ends_its_run_names_no_submitted_version(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(), artifacts)
    feed(learner, 0, 40)

    ends = of(RunFinished, learner.take_events())

    assert {(end.data.version, end.data.importance) for end in ends} == {(None, None)}


def test_when_its_line_wins_a_version_is_made_of_the_same_bytes(artifacts: MemoryArtifacts) -> None:
    learner = learner_with_submission(artifacts)
    feed(learner, 100, 250)
    learner.take_events()
    known = learner.state.data.submissions

    learner.on_loop_state(state(2, stage="training", winner=LINE, submissions=known))
    [version] = of(ModelTrained, learner.take_events())

    assert (version.data.version, version.data.reason) == (f"{LINE}@249", "gate")
    assert artifacts.stored[f"{LINE}@249"] == artifacts.stored[f"{LINE}@99"]
    manifest = version.data.manifest
    assert (manifest.trainer, manifest.metrics, manifest.model.trainer) == ("notebook", {"accuracy": 0.9}, "notebook")
    assert (manifest.format, manifest.opset) == ("onnx", 17)
    assert (manifest.inputs, manifest.outputs) == (("x",), ("probabilities",))
    assert {"onnx", "onnxruntime", "everloop"} <= manifest.libraries.keys()
    assert version.data.signature == ("a", "b")


def test_a_champion_that_was_submitted_is_not_refreshed_because_it_never_changes(artifacts: MemoryArtifacts) -> None:
    learner = learner_with_submission(artifacts)
    feed(learner, 100, 250)
    stored = artifacts.put(f"{LINE}@249", fitted())
    champion = live_version(f"{LINE}@249", uri=stored.uri, sha256=stored.sha256)
    known = learner.state.data
    learner.on_loop_state(loop_state(known.spec, champion=champion, sequence=2, submissions=known.submissions))
    learner.take_events()

    feed(learner, 250, 600)

    assert of(ModelTrained, learner.take_events()) == []


def test_a_drift_under_a_submitted_champion_starts_a_fresh_line_of_the_specs_first_model(
    artifacts: MemoryArtifacts,
) -> None:
    learner = learner_with_submission(artifacts)
    feed(learner, 100, 700)
    learner.on_loop_state(state(2, champion=f"{LINE}@249"))
    run = learner.drift_runs.on_drift(alert(690, 601))

    assert run is not None
    assert (run.data.line, run.data.model) == ("logistic-regression-601", learner.state.data.spec.models[0])


def test_a_snapshot_holds_no_model_and_the_same_losses_follow_from_it(artifacts: MemoryArtifacts) -> None:
    learner = learner_with_submission(artifacts)
    feed(learner, 100, 200)
    learner.take_events()
    snapshot = pickle.dumps(learner)
    feed(learner, 200, 300)
    straight = losses(learner.take_events())

    restored: LoopLearner = pickle.loads(snapshot)
    restored.attach(dependencies(artifacts))
    held = restored.lines.learning[LINE].__dict__["model"]
    feed(restored, 200, 300)

    assert held is None
    assert losses(restored.take_events()) == straight


def test_the_log_learned_again_without_a_snapshot_gives_the_same_losses_and_requests_nothing(
    artifacts: MemoryArtifacts,
) -> None:
    first = learner_with_submission(artifacts)
    feed(first, 100, 300)
    events = first.take_events()

    again = make_learner(first.state, artifacts)
    again.live = False
    again.runs.adopt(first.runs.requests.values(), of(RunFinished, events))
    feed(again, 0, 300)
    repeated = again.take_events()

    assert of(RunRequested, repeated) == []
    assert losses(repeated)[LINE] == losses(events)[LINE]


def test_a_store_that_is_away_costs_only_this_line_the_outcomes_meanwhile(artifacts: MemoryArtifacts) -> None:
    learner = learner_with_submission(artifacts)
    artifacts.away = True
    feed(learner, 100, 150)
    meanwhile = losses(learner.take_events())
    no_gap = learner.lines.gaps()

    artifacts.away = False
    learner.take_events()
    feed(learner, 150, 200)

    assert sorted(meanwhile[CHAMPION]) == list(range(100, 150))
    assert LINE not in meanwhile
    assert no_gap == []
    assert sorted(losses(learner.take_events())[LINE]) == list(range(150, 200))
    assert learner.lines.learning[LINE].outcomes == 100


def test_a_line_that_waits_for_its_model_for_long_catches_up_from_history(
    artifacts: MemoryArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_training.worker.learners.recent_outcomes.RECENT_OUTCOMES", 10)
    learner = learner_with_submission(artifacts)
    artifacts.away = True
    feed(learner, 100, 150)
    artifacts.away = False
    learner.take_events()
    [gap] = learner.lines.gaps()
    learner.learn_history(gap, outcomes(gap.start, gap.stop))

    assert (gap.start, gap.stop) == (100, 150)
    assert learner.lines.learning[LINE].caught_up
    assert learner.lines.learning[LINE].outcomes == 50


def test_a_model_that_breaks_skips_the_outcome_and_after_five_has_ended(
    artifacts: MemoryArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_with_submission(artifacts)
    feed(learner, 100, 110)
    learner.take_events()
    sound = OnnxModel.predict

    def predict(self: OnnxModel, features: Fields) -> ModelPrediction:
        if self is learner.lines.learning[LINE].__dict__["model"] and number[0] % 10 == 0:
            raise RuntimeError("an operator that no runtime has")
        return sound(self, features)

    number = [0]
    monkeypatch.setattr(OnnxModel, "predict", predict)
    for i in range(110, 180):
        if LINE not in learner.lines.learning:
            break
        number[0] = i
        feed(learner, i, i + 1)

    events = learner.take_events()
    failures = of(LineFailed, events)
    assert [f.data.state for f in failures] == ["restarted"] * 5 + ["ended"]
    assert failures[0].data.skipped == (110,)
    assert "an operator that no runtime has" in failures[0].data.reason
    assert sorted(losses(events)[LINE]) == [i for i in range(110, 160) if i % 10]
    assert sorted(losses(events)[CHAMPION])[-1] == 160
    ends = {e.data.line: e.data.state for e in of(RunFinished, events)}
    assert ends[LINE] == "trained"


def test_a_prediction_that_is_no_number_is_a_broken_one(
    artifacts: MemoryArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = spec(task="regression", models=[{"preset": "linear"}])
    learner = make_learner(state(of=number), artifacts)
    for outcome in outcomes(0, 100):
        learner.learn(outcome._replace(label=1.0, prediction=1.0))
    stored = artifacts.put(f"{LINE}@99", fitted())
    learner.on_loop_state(state(1, of=number, submissions=[submission(stored, LINE)]))
    learner.take_events()
    monkeypatch.setattr(OnnxModel, "predict", lambda *_: ModelPrediction(math.nan, None))

    learner.learn(outcomes(100, 101)[0]._replace(label=1.0, prediction=1.0))

    [failed] = [f for f in of(LineFailed, learner.take_events()) if f.data.line == LINE]
    assert "not finite" in failed.data.reason


def test_a_model_that_cannot_be_loaded_ends_its_line(artifacts: MemoryArtifacts) -> None:
    learner = learner_with_submission(artifacts)
    artifacts.stored[f"{LINE}@99"] = b"damaged"

    feed(learner, 100, 101)

    events = learner.take_events()
    [failed] = of(LineFailed, events)
    [end] = of(RunFinished, events)
    assert (failed.data.state, end.data.state) == ("ended", "failed")
    assert "cannot be loaded" in failed.data.reason


def test_a_sixth_submission_takes_the_place_of_the_first_whose_run_ends(artifacts: MemoryArtifacts) -> None:
    learner = learner_with_submission(artifacts)
    learner.take_events()
    newer = [submission(artifacts.put(f"n{i}-100@99", fitted(seen=50 + i)), f"n{i}-100") for i in range(5)]

    learner.on_loop_state(state(2, submissions=newer))
    events = learner.take_events()

    assert {r.data.line for r in of(RunRequested, events)} == {f"n{i}-100" for i in range(5)}
    assert [(e.data.line, e.data.state) for e in of(RunFinished, events)] == [(LINE, "failed")]
    assert LINE not in learner.lines.learning


def test_a_submission_under_the_name_of_another_line_fails_and_that_line_goes_on(artifacts: MemoryArtifacts) -> None:
    learner = make_learner(state(), artifacts)
    feed(learner, 0, 50)
    learner.take_events()
    stored = artifacts.put("other", fitted())

    learner.on_loop_state(state(1, submissions=[submission(stored, CHAMPION, 49)]))
    feed(learner, 50, 100)

    events = learner.take_events()
    [end] = [e for e in of(RunFinished, events) if e.data.state == "failed"]
    assert end.data.reason == "another line has its name; submit it again"
    assert sorted(losses(events)[CHAMPION]) == list(range(50, 100))
    assert learner.lines.runs[CHAMPION].data.trigger == "initial"


def test_a_pinned_loop_compares_submitted_models_as_before(artifacts: MemoryArtifacts) -> None:
    learner = learner_with_submission(artifacts)
    learner.on_loop_state(state(2, pinned=True, submissions=learner.state.data.submissions, of=spec()))
    feed(learner, 100, 150)

    assert sorted(losses(learner.take_events())[LINE]) == list(range(100, 150))
