"""A search by bare Optuna and the bare library, in one process and thread: `python -m tests.bench.bare_search`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from tests.bench import stream

from everloop_schemas.envelope import Fields

SEED, BLOCKS, ITERATIONS = 7, 5, 30
Rows = list[tuple[Fields, bool]]
Trial = Callable[[optuna.Trial], float]


def main(kind: str, trials: int, count: int) -> None:
    """Print trials per second, and microseconds of CPU per trial; imports and the reading of rows are left out."""
    rows: Rows = [(dict(fields), label) for _, fields, label in stream.rows(count)]
    trial = online(rows) if kind == "online" else batch(rows)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    started, computed = time.perf_counter(), time.process_time()
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=SEED, multivariate=True), direction="maximize")
    study.optimize(trial, n_trials=trials)
    rate, cpu_us = trials / (time.perf_counter() - started), 1e6 * (time.process_time() - computed) / trials
    sys.stdout.write(json.dumps({"rate": rate, "cpu_us": cpu_us}))


def online(rows: Rows) -> Trial:
    """River's tree, each row predicted and then learned."""
    from river import metrics, tree

    def trial(one: optuna.Trial) -> float:
        model: Any = tree.HoeffdingAdaptiveTreeClassifier(
            grace_period=one.suggest_int("grace_period", 50, 400),
            delta=one.suggest_float("delta", 1e-7, 1e-2, log=True),
            seed=20,
        )
        accuracy: Any = metrics.Accuracy()  # type: ignore[no-untyped-call]
        for x, y in rows:
            accuracy.update(y, model.predict_one(x) or False)
            model.learn_one(x, y)
        return float(accuracy.get())

    return trial


def batch(rows: Rows) -> Trial:
    """Gradient boosting on the split of time series of scikit-learn, scored on the block and on what was learned."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]
    from sklearn.metrics import accuracy_score  # type: ignore[import-untyped]
    from sklearn.model_selection import TimeSeriesSplit  # type: ignore[import-untyped]

    x = np.array([list(fields.values()) for fields, _ in rows], dtype=np.float64)
    y = np.array([label for _, label in rows])

    def trial(one: optuna.Trial) -> float:
        model = HistGradientBoostingClassifier(
            learning_rate=one.suggest_float("learning_rate", 0.01, 0.3, log=True),
            max_leaf_nodes=one.suggest_int("max_leaf_nodes", 4, 63),
            max_iter=ITERATIONS,
            random_state=20,
        )
        scores = []
        for past, block in TimeSeriesSplit(BLOCKS).split(x):
            model.fit(x[past], y[past])
            accuracy_score(y[past[-len(block) :]], model.predict(x[past[-len(block) :]]))
            scores.append(accuracy_score(y[block], model.predict(x[block])))
        return float(np.mean(scores))

    return trial


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
