"""Writes the list of what artifacts are made of: `python -m everloop_models.formats.river.survey` trains every model.

The list is committed, and a test writes it again. It changes with River, and with what a spec may name.
"""

from __future__ import annotations

import inspect
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from difflib import ndiff
from importlib import import_module
from random import Random
from typing import Any

import river
from river import base

from everloop_models.allow_list import format_uses
from everloop_models.errors import ModelBroken, ModelSpecInvalid
from everloop_models.formats.river.allow_list import FILE
from everloop_models.formats.river.estimators import PRESETS, build
from everloop_models.formats.river.format import save
from everloop_models.opcodes import Use, uses
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec

ROWS = 700
FLIP_EVERY = 250
"""Rows after which the concept flips, so that drift detectors replace what they watch."""
TASKS = ("binary", "multiclass", "regression")
SPECS = {
    task: LoopSpec.model_validate(
        {
            "loop": "survey",
            "task": task,
            "schema": {"a": {"type": "number"}, "n": {"type": "integer"}, "s": {"type": "string"}},
        }
    )
    for task in TASKS
}
EAGER: dict[str, Scalar] = {"grace_period": 40, "n_models": 2, "n_estimators": 2, "delta": 0.1, "tau": 0.5}
"""Where an estimator has them: it splits and forgets sooner, and is smaller."""
VARIANTS: dict[str, tuple[Scalar, ...]] = {
    "aggregation_method": ("mean", "median"),
    "bagging_method": ("bag", "me", "half", "wt", "subag"),
    "detection_mode": ("all", "drop", "off"),
    "disable_detector": ("drift", "warning"),
    "drift_detection_criteria": ("error", "prediction"),
    "learning_rate": (0.1,),
    "mode": (1, 2),
    "pred_type": ("mean", "model", "adaptive"),
    "resampling_strategy": ("bagging", "subbagging"),
    "smoothing": (0.8,),
    "split_criterion": ("gini", "hellinger", "info_gain"),
    "training_method": ("subspaces", "resampling", "patches"),
}
"""Values that choose other parts; numbers and most switches do not."""
LEAVES: dict[bool, tuple[Scalar, ...]] = {False: ("mc", "nb", "nba"), True: ("mean", "model", "adaptive")}


def survey() -> set[Use]:
    """Everything that any artifact was seen to do."""
    found: set[Use] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for task in TASKS:
            for model in models(task):
                found |= seen(model, task)
    return found


def models(task: str) -> Iterator[ModelSpec]:
    """Every preset and every estimator of a task, by itself and with each value that chooses other parts."""
    regression = task == "regression"
    for preset, kinds in PRESETS.items():
        if regression in kinds:
            yield ModelSpec(preset=preset)
    for path, cls in sorted(estimators(base.Regressor if regression else base.Classifier).items()):
        known = set(inspect.signature(cls).parameters)
        known |= {"learning_rate"} if "optimizer" in known else set()
        eager = {name: value for name, value in EAGER.items() if name in known}
        for start in (eager, {**eager, "track_error": False}) if "track_error" in known else (eager,):
            yield _model(path, start)
            for name, values in {**VARIANTS, "leaf_prediction": LEAVES[regression]}.items():
                for value in values if name in known else ():
                    yield _model(path, {**start, name: value})


def estimators(kind: type[Any]) -> dict[str, type[Any]]:
    """Every class of River of this kind that a spec can name, by its shortest path."""
    found: dict[type[Any], str] = {}
    for module in pkgutil.walk_packages(river.__path__, "river."):
        if ".datasets" in module.name or ".test_" in module.name:
            continue
        with suppress(ImportError):  # of what is not installed
            for name, cls in vars(import_module(module.name)).items():
                if isinstance(cls, type) and issubclass(cls, kind) and not inspect.isabstract(cls):
                    path = f"{module.name}.{name}"
                    if cls.__module__.startswith("river.") and len(path) < len(found.get(cls, path + " ")):
                        found[cls] = path
    return {path: cls for cls, path in found.items()}


def seen(model: ModelSpec, task: str) -> set[Use]:
    """What the artifacts of one model do, from its first row until its last, or until it breaks."""
    try:
        built = build(model, SPECS[task])
    except ModelSpecInvalid:  # no spec with it is accepted either
        return set()
    found = uses(save(built))
    with suppress(ModelBroken):
        for i, (features, label) in enumerate(rows(task)):
            built.predict(features)
            built.learn(features, label)
            if i in (4, 40) or i % FLIP_EVERY == FLIP_EVERY - 20:
                found |= uses(save(built))
        found |= uses(save(built))
    return found


def rows(task: str) -> Iterator[tuple[Fields, Scalar]]:
    """Observations with numbers and text, and labels that follow from them until the concept flips."""
    random = Random(5)
    for i in range(ROWS):
        a, n, s = random.random(), random.randrange(5), random.choice("uvwxyz")
        y = 3 * a + n + (s in "uv") + random.gauss(0, 0.1)
        y = 5 - y if (i // FLIP_EVERY) % 2 else y
        label: dict[str, Scalar] = {"binary": y > 3, "multiclass": "abc"[max(0, min(2, int(y / 2)))], "regression": y}
        yield {"a": a, "n": n, "s": s}, label[task]


def _model(path: str, parameters: dict[str, Scalar]) -> ModelSpec:
    return ModelSpec.model_validate({"estimator": path, **parameters})


def main(arguments: list[str]) -> int:
    """Write the list; with `--check`, print how the committed one differs, and return 1."""
    fresh = format_uses(survey())
    if arguments != ["--check"]:
        FILE.write_text(fresh)
        return 0
    changes = [line for line in ndiff(FILE.read_text().splitlines(), fresh.splitlines()) if line[0] in "+-"]
    if changes:
        sys.stderr.write(
            "\n".join([f"{FILE} differs; python -m everloop_models.formats.river.survey writes it again", *changes, ""])
        )
    return bool(changes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
