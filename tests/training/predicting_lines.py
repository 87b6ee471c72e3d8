"""What the tests of lines that learn nothing share: models that were trained elsewhere, and trainings that end."""

from __future__ import annotations

from typing import Any

from onnx import helper
from tests.builders.onnx_models import FLOAT, model, normalised, port, weights
from tests.training.training_harness import LOGISTIC, spec

from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.registry import Submission
from everloop_schemas.training import RunRequested, StoredModel
from everloop_training.domain.trained_model import EndReply, TrainedModel
from everloop_training.worker.learners.loop_learner import LoopLearner

OFTEN = {"window": "300 outcomes", "every": "200 outcomes"}
BATCH = {"estimator": "sklearn.ensemble.HistGradientBoostingClassifier", **OFTEN}
TRAINER = {"trainer": "pytorch", "layers": 2, **OFTEN}
BATCH_LINE = "hist-gradient-boosting-classifier-0"


def mixed(*models: Any, **fields: Any) -> LoopSpec:
    """The spec of a loop with a line that learns, and these others."""
    return spec(models=[LOGISTIC, *models], **fields)


def fitted(flipped: bool = False, seen: int = 300) -> bytes:
    """A network that knows the concept, as an artifact; what it has seen makes it another file."""
    return normalised(network(flipped, seen), spec()).data


def network(flipped: bool = False, seen: int = 300) -> bytes:
    """The ONNX file, as it comes from elsewhere."""
    steep = float(seen) * (-1 if flipped else 1)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    parts = [weights("w", [-steep, steep, 0.0, 0.0], dims=(2, 2)), weights("b", [steep / 2, -steep / 2])]
    made = model(nodes, [port("x", FLOAT, (None, 2))], [port("probabilities", FLOAT, (None, 2))], parts)
    return bytes(made.SerializeToString())


def submission(stored: StoredModel, line: str = "notebook-100", offset: int = 99) -> Submission:
    version = f"{line}@{offset}"
    return Submission(
        version=version,
        line=line,
        run=f"run-of-{line}",
        model=ModelSpec(trainer="notebook"),
        artifact=stored,
        metrics={"accuracy": 0.9},
    )


def open_trainings(learner: LoopLearner) -> list[RunRequested]:
    """The trainings that have not ended, by line and age."""
    trainings = learner.trainings
    return [r for runs in trainings.begun.values() for r in runs if r.data.run not in trainings.ends]


def end_training(learner: LoopLearner, run: RunRequested, stored: StoredModel, **parts: Any) -> EndReply:
    """Let a training end with a model."""
    assert run.data.data_set is not None
    data_set = run.data.data_set.model_copy(update={"rows": 7, "digest": "d" * 64})
    trained = TrainedModel(stored, data_set, {"accuracy": 0.8}, 1.5, "sklearn", **parts)
    return learner.take_model(run.data.run, trained)
