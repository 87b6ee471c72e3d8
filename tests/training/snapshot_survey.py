"""Makes the list of what snapshots hold beside models: `python -m tests.training.snapshot_survey` writes it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from typing import Any, TypeVar

from tests.training.training_world import alert, learner, outcomes, spec, state

from everloop_models.allow_list import format_uses
from everloop_models.opcodes import Use, uses
from everloop_schemas.envelope import Event
from everloop_training.domain.learner import LoopLearner
from everloop_training.snapshots import BESIDE_MODELS, FILE, PartitionState, packed

E = TypeVar("E", bound=Event)
TASKS: tuple[dict[str, Any], ...] = (
    {"task": "binary", "metric": "log_loss", "retrain": {"on_feedback": 50, "on_schedule": "0 * * * *", "below": 0.9}},
    {"task": "multiclass", "label": {"classes": ["True", "False"]}},
    {"task": "multiclass"},
    {"task": "regression", "models": [{"preset": "linear"}], "metric": "rmse"},
    {"task": "binary", "models": [{"preset": p} for p in ("logistic", "adaptive_forest", "naive_bayes")]},
)


def survey() -> set[Use]:
    """What snapshots do, taken at every kind of moment, without what models and events do."""
    found: set[Use] = set()
    for parts in TASKS:
        for room in moments(parts):
            found |= uses(packed(PartitionState(1, 2, {"market": room})))
    return found - BESIDE_MODELS.uses


def moments(parts: dict[str, Any]) -> Iterator[LoopLearner]:
    """A learner before its first outcome, with runs, alerts, repeats, gaps, a line that broke, and after a restart."""
    kind = parts["task"]
    labels = {"regression": float, "multiclass": str}.get(kind, bool)
    of = spec(**parts)
    room = learner(read(state(of=of)))
    yield room
    for i in range(0, 600, 50):
        for outcome in outcomes(i, i + 50):
            room.learn(outcome._replace(label=labels(outcome.label), prediction=labels(outcome.prediction)))
        if i == 200:
            champion = f"{next(iter(room.spec_lines.values()))}@100"
            room.follow(read(state(1, champion, of=of, candidate=champion)))
            room.on_drift(read(alert(240, 210)))
        if i == 250:
            model: Any = next(iter(room.roster.lines.values())).model
            model.estimator = None  # it breaks, and starts again
        if i == 300:
            room.remind(read(alert(340, 310, "later")))
            room.request("person", "why not")
            room.learn(outcomes(310, 311)[0]._replace(offset=351))
        room.take()
        yield room
    again: LoopLearner = pickle.loads(pickle.dumps(room))
    again.restored(room.voice.tools)
    again.adopt([read(request) for request in room.requests.values()], ["run"])
    yield again


def read(event: E) -> E:
    """The event as it comes from the log."""
    return type(event).model_validate_json(event.encode())


if __name__ == "__main__":
    FILE.write_text(format_uses(survey()))
    sys.stderr.write(f"{FILE} written\n")
