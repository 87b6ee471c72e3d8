"""The loop spec: the one YAML file that describes a loop. What older versions took is read; the door asks for more."""

from __future__ import annotations

import re
from functools import cached_property
from math import inf
from sys import float_info
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from everloop_schemas.cron import Cron
from everloop_schemas.envelope import Scalar
from everloop_schemas.names import FIELD_NAME, LOOP_NAME

WINDOW_FUNCTIONS = ("mean", "sum", "min", "max", "count", "std", "last", "diff", "lag")
LARGEST = float_info.max
UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
LONGEST_S = 3650 * 86400.0
"""The longest duration anybody reckons with: a date and so much more is still a date."""

Task = Literal["binary", "multiclass", "regression"]
Name = Annotated[str, Field(pattern=FIELD_NAME)]

UNKNOWN: dict[str, Scalar] = {"string": "<unknown>", "integer": -(2**63)}
"""By label type, what a multiclass loop that names no classes predicts before it has any label. Reserved: no label."""


def seconds(duration: str) -> float:
    """Seconds of a duration such as `7d`, `12h`, `30s` or `20ms`; infinite where no double can hold them."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)\s*", duration)
    if not match or float(match[1]) <= 0:
        raise ValueError("must be a duration above 0 such as 7d, 12h, 30m, 10s or 20ms")
    return float(match[1]) * UNITS_S[match[2]]


def counted(value: Any, unit: str) -> int:
    """The number in `100 outcomes`, or the bare number."""
    text = str(value).strip()
    match = re.fullmatch(rf"0*([0-9]{{1,8}})(?:\s+{unit}s?)?", text)
    if isinstance(value, bool) or not match or int(match[1]) > 10_000_000:
        raise ValueError(f"must be a whole number of {unit}s up to 10,000,000, such as '100 {unit}s'")
    return int(match[1])


def share(value: Any) -> float:
    """The fraction in `25%`, or the bare fraction."""
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if isinstance(value, bool) or not 0 < number < 1:
        raise ValueError("must be a share between 0 and 100 %, such as 25%")
    return number


def _duration(value: Any) -> str:
    seconds(str(value))
    return str(value)


def _outcomes(value: Any) -> int:
    return counted(value, "outcome")


def _predictions(value: Any) -> int:
    return counted(value, "prediction")


Duration = Annotated[str, BeforeValidator(_duration)]
Outcomes = Annotated[int, BeforeValidator(_outcomes, json_schema_input_type=int | str)]
Predictions = Annotated[int, BeforeValidator(_predictions, json_schema_input_type=int | str)]
Share = Annotated[float, BeforeValidator(share, json_schema_input_type=float | str)]


class Part(BaseModel):
    """A part of the spec: frozen, and strict about names, so that a typo is an error and not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FieldSpec(Part):
    """One field of an observation. `missing: null` lets it be left out or null."""

    type: Literal["number", "integer", "boolean", "string"]
    min: float | None = None
    max: float | None = None
    enum: tuple[Scalar, ...] | None = None
    missing: Literal["refuse", "null"] = "refuse"

    @cached_property
    def ranges(self) -> dict[object, tuple[float, float]]:
        """By type of a value, the lowest and highest that fit without a further look; none where there must be one."""
        lowest, highest = (-inf if self.min is None else self.min), (inf if self.max is None else self.max)
        whole = (max(lowest, -(2**63)), min(highest, 2**63 - 1))
        of: dict[str, dict[object, tuple[float, float]]] = {
            "number": {float: (max(lowest, -LARGEST), min(highest, LARGEST)), int: whole},
            "integer": {int: whole},
            "boolean": {bool: (False, True)},
        }
        return of.get(self.type, {}) if self.enum is None else {}

    @field_validator("missing", mode="before", json_schema_input_type=Literal["refuse", "null"] | None)
    @classmethod
    def _null_is_a_word(cls, value: Any) -> Any:
        return "null" if value is None else value

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        if self.type not in ("number", "integer") and (self.min is not None or self.max is not None):
            raise ValueError("min and max are for numbers only")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min must not be above max")
        return self


class FeatureSpec(Part):
    """One feature, in one of four forms.

    `{fields: all}` or `{fields: [a, b]}`: fields as they are. `{name, <function>: field, over: "12 events"}` or
    `over: 1d`: a window, function one of mean sum min max count std last diff lag. `{name, expr: "a - b"}`:
    arithmetic over fields and earlier features. `{name, lag: label}`: the entity's last known label.
    """

    name: Name | None = None
    fields: Literal["all"] | tuple[str, ...] | None = None
    expr: Annotated[str, Field(max_length=500)] | None = None
    over: str | None = None
    mean: str | None = None
    sum: str | None = None
    min: str | None = None
    max: str | None = None
    count: str | None = None
    std: str | None = None
    last: str | None = None
    diff: str | None = None
    lag: str | None = None

    @property
    def function(self) -> str | None:
        """The window function, None for the other forms."""
        return next((f for f in WINDOW_FUNCTIONS if getattr(self, f) is not None), None)

    @property
    def of(self) -> str | None:
        """The field the window function looks at; `label` with `lag` is the entity's last known label."""
        return getattr(self, self.function) if self.function else None

    @property
    def events(self) -> int | None:
        """The window's length in events, None where it is a duration or not given."""
        return counted(self.over, "event") if self.over and "event" in self.over else None

    @property
    def duration_s(self) -> float | None:
        """The window's length in seconds of event time, None where it is a number of events or not given."""
        return min(seconds(self.over), LONGEST_S) if self.over and "event" not in self.over else None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        functions = [f for f in WINDOW_FUNCTIONS if getattr(self, f) is not None]
        forms = [*functions, *(["expr"] if self.expr else []), *(["fields"] if self.fields else [])]
        if len(forms) != 1:
            raise ValueError(f"needs exactly one of fields, expr, {', '.join(WINDOW_FUNCTIONS)}; has {forms or 'none'}")
        if self.fields is None and self.name is None:
            raise ValueError("needs a name")
        if self.over is not None:
            length = self.events if "event" in self.over else 1 if seconds(self.over) else 0
            if not functions or self.lag == "label":
                raise ValueError("over belongs to a window function")
            if not length or length > 100_000:
                raise ValueError("over must be between 1 and 100,000 events")
        elif functions and functions[0] not in ("last", "diff", "lag"):
            raise ValueError(f'{functions[0]} needs over, such as over: "12 events"')
        return self


class LabelSpec(Part):
    """What the truth looks like, and for how long after the prediction it may still come (event time).

    `min` and `max` bound a label that is a number; without them a regression loop takes -1e19 to 1e19.
    """

    type: Literal["boolean", "integer", "number", "string"] | None = None
    classes: tuple[Scalar, ...] | None = None
    min: float | None = None
    max: float | None = None
    within: Duration = "7d"

    @property
    def within_s(self) -> float:
        """`within` in seconds, at most LONGEST_S."""
        return min(seconds(self.within), LONGEST_S)


class ModelSpec(BaseModel):
    """A model: a `preset`, or a river `estimator` by its path; further keys are its parameters.

    `scale` puts a scaler before it: `true` or `robust` one that a few wild values cannot ruin, `standard` plain mean
    and variance. The presets `logistic` and `linear` have the robust one unless they ask for `standard`.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Scalar | None] = Field(init=False)

    preset: (
        Literal["logistic", "linear", "adaptive_forest", "hoeffding_tree", "leveraging_bagging", "naive_bayes"] | None
    ) = None
    estimator: Annotated[str, Field(pattern=r"^river(\.[a-z_]+)+\.[A-Z][A-Za-z0-9]*$")] | None = None
    scale: bool | Literal["robust", "standard"] = False

    @property
    def parameters(self) -> dict[str, Scalar | None]:
        """What the estimator is built with."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.preset is None) == (self.estimator is None):
            raise ValueError("needs exactly one of preset and estimator")
        return self


class RefreshSpec(Part):
    """How often, at most, the champion's line reaches serving."""

    every: Outcomes = 100


class RetrainSpec(Part):
    """What starts a fresh line. `on_feedback` and `on_labels` count since the last run.

    `below` is a floor in quality of the loop's metric over the last 500 outcomes as served: a run where mae, rmse or
    log_loss is above it, where accuracy, f1, roc_auc or r2 is below it.
    """

    on_drift: bool = True
    on_feedback: Annotated[int, Field(gt=0)] | None = None
    on_labels: Annotated[int, Field(gt=0)] | None = None
    on_schedule: str | None = None
    below: float | None = None
    cooldown: Outcomes = 500

    @field_validator("on_schedule")
    @classmethod
    def _can_fire(cls, value: str | None) -> str | None:
        if value is not None:
            Cron(value)
        return value


class GateSpec(Part):
    """How sure the gate must be, and after how many outcomes at least."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    min_outcomes: Annotated[int, BeforeValidator(_outcomes, json_schema_input_type=int | str), Field(ge=1)] = 200


class RolloutSpec(Part):
    """How a winner takes over: predictions in shadow, then shares of the traffic for `step` outcomes each.

    `approval` is reserved: nobody is asked for an approval yet, and the registry refuses every other value.
    """

    shadow: Predictions = 100
    canary: tuple[Share, ...] = (0.05, 0.25, 0.5)
    step: Annotated[int, BeforeValidator(_outcomes, json_schema_input_type=int | str), Field(ge=1)] = 100
    split_by: Literal["prediction", "entity"] = "prediction"
    approval: Literal["none"] = "none"

    @field_validator("canary")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("shares must rise, such as [5%, 25%, 50%]")
        return value


class MonitorSpec(Part):
    """Reserved: slices, groups and a latency to watch beside the served error.

    No code reads these yet, and the registry refuses them in a loop file; specs stored earlier may hold them.
    """

    slices: tuple[str, ...] = ()
    fairness: tuple[str, ...] = ()
    latency_p99: Duration | None = None


LABEL_LIMIT = 1e19
"""The largest label of a regression loop that says nothing else: beyond every integer of 64 bits."""
METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("accuracy", "f1", "roc_auc", "log_loss"),
    "multiclass": ("accuracy", "f1", "log_loss"),
    "regression": ("mae", "rmse", "r2"),
}


class LoopSpec(Part):
    """One loop, whole. Only `loop`, `task` and `schema` have no default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    api_version: Literal["everloop/v1"] = Field("everloop/v1", alias="apiVersion")
    loop: Annotated[str, Field(pattern=LOOP_NAME)]
    task: Task
    fields: dict[Name, FieldSpec] = Field(alias="schema", min_length=1, max_length=1000)
    features: tuple[FeatureSpec, ...] = Field((FeatureSpec(fields="all"),), min_length=1, max_length=1000)
    label: LabelSpec = LabelSpec()
    models: tuple[ModelSpec, ...] = Field((), max_length=10)
    metric: str = ""
    refresh: RefreshSpec = RefreshSpec()
    retrain: RetrainSpec = RetrainSpec()
    gate: GateSpec = GateSpec()
    rollout: RolloutSpec = RolloutSpec()
    monitor: MonitorSpec = MonitorSpec()

    @model_validator(mode="before")
    @classmethod
    def _defaults_by_task(cls, data: Any) -> Any:
        task = data.get("task") if isinstance(data, dict) else None
        if not isinstance(task, str) or task not in METRICS:
            return data
        filled = dict(data)
        filled.setdefault("metric", METRICS[task][0])
        if not filled.get("models"):
            filled["models"] = [{"preset": "linear" if task == "regression" else "logistic"}]
        return filled

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.metric not in METRICS[self.task]:
            raise ValueError(
                f"metric: {self.metric!r} is not for {self.task}; use one of {', '.join(METRICS[self.task])}"
            )
        kinds = {"binary": ("boolean",), "regression": ("number", "integer")}.get(
            self.task, ("string", "integer", "boolean")
        )
        if self.label.type is not None and self.label.type not in kinds:
            raise ValueError(f"label.type: a {self.task} loop has a label of type {' or '.join(kinds)}")
        if self.label.classes is not None and self.task != "multiclass":
            raise ValueError("label.classes: only a multiclass loop names its classes")
        self._check_label_bounds()
        if "label" in self.fields:
            raise ValueError("schema.label: the name is taken by the truth; call the field otherwise")
        return self

    def _check_label_bounds(self) -> None:
        lowest, highest = self.label.min, self.label.max
        if (lowest, highest) == (None, None):
            return
        if self.label.classes is not None or self.label_type not in ("number", "integer"):
            raise ValueError("label.min: min and max are for labels that are numbers, without classes")
        lowest, highest = self.label_bounds
        if lowest is not None and highest is not None and lowest > highest:
            raise ValueError(f"label.min: {lowest:g} must not be above max, {highest:g}")

    @property
    def label_type(self) -> str:
        """The label's type: as given, else that of its classes, else the task's own."""
        if self.label.type is not None:
            return self.label.type
        kinds = {type(c) for c in self.label.classes or ()}
        if len(kinds) == 1:
            return {bool: "boolean", int: "integer"}.get(kinds.pop(), "string")
        return {"binary": "boolean", "regression": "number"}.get(self.task, "string")

    @property
    def label_bounds(self) -> tuple[float | None, float | None]:
        """The lowest and the highest label, None where there is no bound."""
        lowest, highest = self.label.min, self.label.max
        if self.task != "regression":
            return lowest, highest
        return -LABEL_LIMIT if lowest is None else lowest, LABEL_LIMIT if highest is None else highest

    @property
    def unknown(self) -> Scalar | None:
        """The prediction that says "no class is known yet", of a multiclass loop that names none; else None."""
        open_classes = self.task == "multiclass" and not self.label.classes
        return UNKNOWN.get(self.label_type) if open_classes else None

    @property
    def first_answer(self) -> Scalar:
        """What is predicted before any label: 0, the first class, `unknown` where no class is named, or false."""
        if self.task == "regression":
            return 0.0
        if self.label.classes:
            return self.label.classes[0]
        return False if self.unknown is None else self.unknown
