"""How well each kind of line predicts the same outcomes, each before it is learned; no broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from river.datasets import synth
from tests.bench import stream
from tests.bench.figures import Figure
from tests.bench.settings import Settings

from everloop_models import Model, OnlineModel, build
from everloop_models.batch.fit import train
from everloop_models.batch.rows import Row
from everloop_models.formats import load
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_training.worker.learners.training_schedule import TrainingSchedule, window_of

CLASSIFIERS: tuple[dict[str, Any], ...] = (
    {"preset": "logistic"},
    {"preset": "hoeffding_tree"},
    {"preset": "adaptive_forest"},
    {"estimator": "sklearn.ensemble.HistGradientBoostingClassifier"},
    {"estimator": "xgboost.XGBClassifier"},
    {"estimator": "lightgbm.LGBMClassifier"},
)
REGRESSORS: tuple[dict[str, Any], ...] = (
    {"preset": "linear"},
    {"preset": "adaptive_forest"},
    {"estimator": "sklearn.ensemble.HistGradientBoostingRegressor"},
    {"estimator": "xgboost.XGBRegressor"},
    {"estimator": "lightgbm.LGBMRegressor"},
)
NOTE = "prequential; batch lines are trained by their schedule, which no drift restarts"
FRIEDMAN_NAMES = tuple(f"x{i}" for i in range(10))


async def measure(settings: Settings) -> list[Figure]:
    """Share of right predictions on electricity, and mean absolute error on Friedman's stream with drifts."""
    return await asyncio.to_thread(_measure, settings.line_outcomes, settings.line_window, settings.line_every)


def _measure(count: int, window: int, every: int) -> list[Figure]:
    electricity = [Row(dict(fields), label) for _, fields, label in stream.rows(count)]
    market = LoopSpec.model_validate(stream.spec())
    figures = []
    for what, spec, rows, models, unit in (
        ("electricity, accuracy", market, electricity, CLASSIFIERS, "share"),
        ("Friedman with drifts, mean absolute error", friedman_spec(), list(friedman(count)), REGRESSORS, "label"),
    ):
        for given in models:
            batch = {"window": window, "every": every} if "estimator" in given else {}
            model = ModelSpec.model_validate({**given, **batch})
            value = prequential(model, spec, rows)
            name = str(given.get("preset") or given["estimator"].rpartition(".")[2])
            figures.append(Figure(f"{what}: {name}", value, unit, note=NOTE))
    return figures


def prequential(model: ModelSpec, spec: LoopSpec, rows: Sequence[Row]) -> float:
    """The accuracy, or the mean absolute error, without the first 500 outcomes: no batch line has a model before."""
    warm_up = min(500, len(rows) // 2)
    predict = _online(model, spec, rows) if model.kind == "online" else _batch(model, spec, rows)
    scores = [_score(value, row.label) for value, row in zip(predict, rows, strict=True)][warm_up:]
    return sum(scores) / len(scores)


def _score(value: Any, label: Any) -> float:
    return float(value == label) if isinstance(label, bool) else abs(float(value) - float(label))


def _online(model: ModelSpec, spec: LoopSpec, rows: Sequence[Row]) -> Iterator[Any]:
    line: OnlineModel = build(model, spec)
    for row in rows:
        yield line.predict(row.features).value
        line.learn(row.features, row.label)


def _batch(model: ModelSpec, spec: LoopSpec, rows: Sequence[Row]) -> Iterator[Any]:
    schedule, current = TrainingSchedule.from_start(model, 0, 0), None
    for number, row in enumerate(rows):
        if schedule.is_due(number):
            current = _trained(model, spec, rows[max(0, number - window_of(model)) : number])
            schedule.advance(number)
        yield spec.initial_prediction if current is None else current.predict(row.features).value


def _trained(model: ModelSpec, spec: LoopSpec, rows: Sequence[Row]) -> Model:
    return load(train(model, spec, list(rows)).data, "onnx")


def friedman_spec() -> LoopSpec:
    """A loop on Friedman's stream."""
    fields = {name: {"type": "number"} for name in FRIEDMAN_NAMES}
    return LoopSpec.model_validate({"loop": "friedman", "task": "regression", "schema": fields})


def friedman(count: int) -> Iterator[Row]:
    """Ten numbers and a label that follows from five of them, in another way after each of two global drifts."""
    drifts = (count // 3, 2 * count // 3)
    for x, y in synth.FriedmanDrift(drift_type="gra", position=drifts, seed=1).take(count):
        yield Row({f"x{i}": float(x[i]) for i in range(10)}, float(y))
