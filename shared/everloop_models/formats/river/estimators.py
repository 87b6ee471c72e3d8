"""From a model's spec to a model, with errors that name the field and the fix."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from river import base, ensemble, forest, linear_model, multiclass, naive_bayes, optim, preprocessing, tree

from everloop_models.errors import ModelSpecInvalid
from everloop_models.formats import RANDOM_SEED
from everloop_models.formats.river.model import RiverModel
from everloop_models.formats.river.parameters import MAX_MEMBERS, check_parameter
from everloop_models.scaling import RobustScaler, Target, ValueClipper
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec

ALIASES = {"trees": "n_models", "models": "n_models"}
PRESETS: dict[str, dict[bool, type[Any]]] = {
    "logistic": {False: linear_model.LogisticRegression},
    "linear": {True: linear_model.LinearRegression},
    "adaptive_forest": {False: forest.ARFClassifier, True: forest.ARFRegressor},
    "hoeffding_tree": {False: tree.HoeffdingAdaptiveTreeClassifier, True: tree.HoeffdingAdaptiveTreeRegressor},
    "leveraging_bagging": {False: ensemble.LeveragingBaggingClassifier},
    "naive_bayes": {False: naive_bayes.GaussianNB},
}
SCALED = ("logistic", "linear")
LINEAR_CLIP = 2.0
"""Gradients are clipped to this many scales of the label, because squared steps on outliers grow without bound."""


def build(model: ModelSpec, spec: LoopSpec, field: str = "models.0") -> RiverModel:
    """A new model of the loop's task, deterministic (seed `RANDOM_SEED` unless it names one).

    Parameters are those of the River class, beside `trees` for `n_models`, and `learning_rate` where it has an
    optimizer. A classifier for two classes learns more of them as one against the rest. Raises ModelSpecInvalid
    naming `field`.
    """
    regression = spec.task == "regression"
    cls = river_class(model, spec, field)
    estimator = _construct(cls, model, field)
    if spec.task == "multiclass" and not estimator._multiclass:
        estimator = multiclass.OneVsRestClassifier(estimator)
    target = Target(scaled=model.preset == "linear") if regression else None
    return RiverModel(estimator, default=spec.initial_prediction, scaler=_scaler(model), target=target)


def _scaler(model: ModelSpec) -> Any:
    if model.scale == "standard":
        return preprocessing.StandardScaler()
    return RobustScaler() if model.scale or model.preset in SCALED else ValueClipper()


def check_parameters(model: ModelSpec, spec: LoopSpec, field: str = "models.0") -> None:
    """Raise ModelSpecInvalid for an unknown class, or a parameter beyond what any loop needs; build nothing."""
    cls = river_class(model, spec, field)
    known = inspect.signature(cls).parameters
    for name, value in model.parameters.items():
        if (parameter := known.get(parameter_name(cls, name))) is not None:
            check_parameter(parameter, value, f"{field}.{name}")


def river_class(model: ModelSpec, spec: LoopSpec, field: str = "models.0") -> type[Any]:
    """The River class that a model names; raises ModelSpecInvalid naming `field`."""
    regression = spec.task == "regression"
    return _preset(model, regression, field) if model.preset else _estimator(model, regression, field)


def parameter_name(cls: type[Any], name: str) -> str:
    """The name that River gives to a parameter of a spec."""
    return name if name in inspect.signature(cls).parameters else ALIASES.get(name, name)


def _preset(model: ModelSpec, regression: bool, field: str) -> type[Any]:
    assert model.preset is not None, "checked by river_class"
    kinds = PRESETS[model.preset]
    if regression not in kinds:
        fitting = ", ".join(name for name, by in PRESETS.items() if regression in by)
        task = "regression" if regression else "classes"
        raise ModelSpecInvalid(f"{field}.preset", f"{model.preset} is not for {task}; use one of {fitting}")
    return kinds[regression]


def _estimator(model: ModelSpec, regression: bool, field: str) -> type[Any]:
    path = model.estimator or ""
    where = f"{field}.estimator"
    module_name, _, name = path.rpartition(".")
    try:
        cls = getattr(import_module(module_name), name)
    except (ImportError, AttributeError) as e:
        raise ModelSpecInvalid(
            where, f"{path} is not in the installed river; see river's API for the path, or use a preset"
        ) from e
    wanted = base.Regressor if regression else base.Classifier
    ours = isinstance(cls, type) and cls.__module__.startswith("river.")
    if not ours or not issubclass(cls, wanted) or inspect.isabstract(cls):
        raise ModelSpecInvalid(where, f"{path} is not a river {'regressor' if regression else 'classifier'}")
    return cls  # type: ignore[no-any-return]


def _construct(cls: type[Any], model: ModelSpec, field: str) -> Any:
    known = inspect.signature(cls).parameters
    arguments: dict[str, Any] = {}
    for name, value in model.parameters.items():
        arguments |= _argument(name, value, known, f"{field}.{name}")
    if "seed" in known:
        arguments.setdefault("seed", RANDOM_SEED)
    if model.preset == "linear":
        arguments.setdefault("clip_gradient", LINEAR_CLIP)
    if cls is ensemble.LeveragingBaggingClassifier:
        arguments["model"] = tree.HoeffdingTreeClassifier()
    needed = [n for n, p in known.items() if p.default is p.empty and n not in arguments and p.kind < p.VAR_POSITIONAL]
    if needed:
        raise ModelSpecInvalid(f"{field}.{needed[0]}", f"{cls.__name__} needs it; a preset has it built in")
    try:
        return cls(**arguments)
    except Exception as e:
        raise ModelSpecInvalid(field, f"{cls.__name__} does not take these parameters: {e}") from e


def _argument(name: str, value: Scalar | None, known: Any, field: str) -> dict[str, Any]:
    if name == "learning_rate" and name not in known and "optimizer" in known:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 10:
            raise ModelSpecInvalid(field, "must be a number above 0 and up to 10")
        return {"optimizer": optim.SGD(value)}
    target = ALIASES.get(name, name) if name not in known else name
    if target not in known:
        raise ModelSpecInvalid(field, f"is not a parameter; it takes {', '.join(known) or 'none'}")
    if target == "n_models" and (type(value) is not int or not 1 <= value <= MAX_MEMBERS):
        raise ModelSpecInvalid(field, f"must be a whole number from 1 to {MAX_MEMBERS}")
    return {target: value}
