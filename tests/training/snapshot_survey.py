"""Lists the classes that snapshots hold beside models: `python -m tests.training.snapshot_survey` writes it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from typing import Any, TypeVar

from tests.builders.events import run_finished
from tests.training.predicting_lines import BATCH, TRAINER, end_training, fitted, mixed, open_trainings, submission
from tests.training.training_harness import MemoryArtifacts, alert, make_learner, model_of, outcomes, spec, state

from everloop_models.allow_list import format_uses
from everloop_models.opcodes import Use, uses
from everloop_schemas.envelope import Event
from everloop_training.worker.learners.loop_learner import LoopLearner
from everloop_training.worker.learners.predicting_line import PredictingLine
from everloop_training.worker.snapshots import BESIDE_MODELS, FILE, PartitionState, pack

E = TypeVar("E", bound=Event)
REQUIRED = ("accuracy >= 0.8", "fairness.a.equal_opportunity <= 0.5")
TASKS: tuple[dict[str, Any], ...] = (
    {"task": "binary", "metric": "log_loss", "retrain": {"on_feedback": 50, "on_schedule": "0 * * * *", "below": 0.9}},
    {"task": "multiclass", "label": {"classes": ["True", "False"]}},
    {"task": "multiclass", "metric": "f1"},
    {"task": "regression", "models": [{"preset": "linear"}], "metric": "rmse"},
    {"task": "binary", "metric": "roc_auc", "search": {"space": {"models.0.l2": {"log": [0.01, 1]}}, "every": 100}},
    {"task": "binary", "monitor": {"fairness": ["a"]}, "gate": {"require": REQUIRED}},
    {"task": "binary", "models": [{"preset": p} for p in ("logistic", "adaptive_forest", "naive_bayes")]},
)


def survey() -> set[Use]:
    """What snapshots unpickle at every kind of moment, without what models and events do."""
    found: set[Use] = set()
    for parts in TASKS:
        for each in learners_of_all_kinds(parts):
            found |= uses(pack(PartitionState(1, 2, {"market": each})))
    for each in learners_of_trained_lines():
        found |= uses(pack(PartitionState(1, 2, {"market": each})))
    return found - BESIDE_MODELS.uses


def learners_of_all_kinds(parts: dict[str, Any]) -> Iterator[LoopLearner]:
    """A learner before its first outcome, with runs, alerts, repeats, gaps, a line that broke, and after a restart."""
    kind = parts["task"]
    labels = {"regression": float, "multiclass": str}.get(kind, bool)
    of = spec(**parts)
    learner = make_learner(read(state(of=of)))
    yield learner
    for i in range(0, 600, 50):
        for outcome in outcomes(i, i + 50):
            learner.learn(outcome._replace(label=labels(outcome.label), prediction=labels(outcome.prediction)))
        if i == 200:
            champion = f"{next(iter(learner.lines.spec_lines.values()))}@100"
            learner.on_loop_state(read(state(1, champion, of=of, candidate=champion)))
            learner.drift_runs.on_drift(read(alert(240, 210)))
        if i == 250:
            model = model_of(learner, next(iter(learner.lines.learning)))
            model.estimator = None  # it breaks, and starts again
        if i == 300:
            learner.drift_runs.replay(read(alert(340, 310, "later")))
            learner.runs.start_manual("person", "why not")
            learner.learn(outcomes(310, 311)[0]._replace(offset=351))
        learner.take_events()
        yield learner
    again: LoopLearner = pickle.loads(pickle.dumps(learner))
    again.attach(learner.events.dependencies)
    again.runs.adopt([read(request) for request in learner.runs.requests.values()], [read(run_finished("run"))])
    yield again


def learners_of_trained_lines() -> Iterator[LoopLearner]:
    """A learner with a batch line, a trainer's and a submitted model: while they train, have models, and break."""
    artifacts = MemoryArtifacts()
    learner = make_learner(read(state(of=mixed(BATCH, TRAINER))), artifacts)
    for i in range(0, 800, 50):
        for outcome in outcomes(i, i + 50):
            learner.learn(outcome)
        if i == 250:
            stored = artifacts.put("submitted", fitted())
            submitted = submission(stored, "notebook-300", 299)
            learner.on_loop_state(read(state(1, of=mixed(BATCH, TRAINER), submissions=[submitted])))
            learner.drift_runs.on_drift(read(alert(240, 210)))
        for number, run in enumerate(open_trainings(learner)):
            end_training(learner, run, artifacts.put(f"{i}-{number}", fitted(seen=100 + i + number)))
        artifacts.away = i == 600
        for line in learner.lines.learning.values():
            if i == 600 and isinstance(line, PredictingLine):
                line.model = None
        learner.take_events()
        yield learner


def read(event: E) -> E:
    """The event as it comes from the log."""
    return type(event).decode(event.encode())


if __name__ == "__main__":
    FILE.write_text(format_uses(survey()))
    sys.stderr.write(f"{FILE} written\n")
