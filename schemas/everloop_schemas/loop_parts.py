"""The parts of a loop spec: fields, features, label, models, gate, rollout."""

from __future__ import annotations

from functools import cached_property
from math import inf
from sys import float_info
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from everloop_schemas.conditions import ConditionText
from everloop_schemas.cron import Cron
from everloop_schemas.envelope import Scalar
from everloop_schemas.names import FIELD_NAME
from everloop_schemas.quantities import (
    MAX_DURATION_S,
    Duration,
    OutcomeCount,
    PredictionCount,
    Share,
    parse_count,
    parse_duration_s,
)

WINDOW_FUNCTIONS = ("mean", "sum", "min", "max", "count", "std", "last", "diff", "lag")
LARGEST_FLOAT = float_info.max
Name = Annotated[str, Field(pattern=FIELD_NAME)]
ESTIMATOR = r"^(river(\.[a-z_]+)+|(sklearn|xgboost|lightgbm)(\.[a-z_]+)*)\.[A-Z][A-Za-z0-9]*$"
MAX_APPROVALS = 10
TRAINER = r"^[a-z][a-z0-9_-]{0,39}$"


class SpecPart(BaseModel):
    """A part of the spec: frozen, and strict about names, so that a typo is an error instead of a default."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FieldSpec(SpecPart):
    """One field of an observation.

    `missing: null` lets it be left out or null. `personal` seals its values, and the features that follow from it, with
    a key of the entity wherever they are stored.
    """

    type: Literal["number", "integer", "boolean", "string"]
    min: float | None = None
    max: float | None = None
    enum: tuple[Scalar, ...] | None = None
    missing: Literal["refuse", "null"] = "refuse"
    personal: bool = False

    @cached_property
    def ranges(self) -> dict[object, tuple[float, float]]:
        """By Python type of a value, the range that needs no other check; empty where `enum` must be checked."""
        lowest, highest = (-inf if self.min is None else self.min), (inf if self.max is None else self.max)
        whole = (max(lowest, -(2**63)), min(highest, 2**63 - 1))
        of: dict[str, dict[object, tuple[float, float]]] = {
            "number": {float: (max(lowest, -LARGEST_FLOAT), min(highest, LARGEST_FLOAT)), int: whole},
            "integer": {int: whole},
            "boolean": {bool: (False, True)},
        }
        return of.get(self.type, {}) if self.enum is None else {}

    @field_validator("missing", mode="before", json_schema_input_type=Literal["refuse", "null"] | None)
    @classmethod
    def _read_null(cls, value: Any) -> Any:
        return "null" if value is None else value

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.type not in ("number", "integer") and (self.min is not None or self.max is not None):
            raise ValueError("min and max are for numbers only")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min must not be above max")
        return self


class RetentionSpec(SpecPart):
    """How long what is known of an entity is kept after it was seen last.

    `personal`: then its key is destroyed, so that its personal values can be read nowhere any more. By default it is
    kept until somebody has it erased.
    """

    personal: Duration | None = None


class FeatureSpec(SpecPart):
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
    def field(self) -> str | None:
        """The field that the window function reads; `label` with `lag` is the entity's last known label."""
        return getattr(self, self.function) if self.function else None

    @property
    def events(self) -> int | None:
        """The window's length in events, None where it is a duration or not given."""
        return parse_count(self.over, "event") if self.over and "event" in self.over else None

    @property
    def duration_s(self) -> float | None:
        """The window's length in seconds of event time, None where it is a number of events or not given."""
        return min(parse_duration_s(self.over), MAX_DURATION_S) if self.over and "event" not in self.over else None

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        functions = [f for f in WINDOW_FUNCTIONS if getattr(self, f) is not None]
        forms = [*functions, *(["expr"] if self.expr else []), *(["fields"] if self.fields else [])]
        if len(forms) != 1:
            raise ValueError(f"needs exactly one of fields, expr, {', '.join(WINDOW_FUNCTIONS)}; has {forms or 'none'}")
        if self.fields is None and self.name is None:
            raise ValueError("needs a name")
        if self.over is not None:
            length = self.events if "event" in self.over else 1 if parse_duration_s(self.over) else 0
            if not functions or self.lag == "label":
                raise ValueError("over belongs to a window function")
            if not length or length > 100_000:
                raise ValueError("over must be between 1 and 100,000 events")
        elif functions and functions[0] not in ("last", "diff", "lag"):
            raise ValueError(f'{functions[0]} needs over, such as over: "12 events"')
        return self


class LabelSpec(SpecPart):
    """The type and range of labels, and how long after the prediction a label may arrive (event time).

    `min` and `max` bound a label that is a number; without them a regression loop takes -1e19 to 1e19.
    """

    type: Literal["boolean", "integer", "number", "string"] | None = None
    classes: tuple[Scalar, ...] | None = None
    min: float | None = None
    max: float | None = None
    within: Duration = "7d"

    @property
    def within_s(self) -> float:
        """`within` in seconds, at most MAX_DURATION_S."""
        return min(parse_duration_s(self.within), MAX_DURATION_S)


class ModelSpec(BaseModel):
    """A model: a `preset`, an `estimator` by its path, or a `trainer` elsewhere; further keys are its parameters.

    An estimator of river learns online. One of sklearn, xgboost or lightgbm is a batch line: it is trained on the last
    `window` outcomes, again after `every` outcomes; so is the line of a `trainer`, a program elsewhere that takes runs
    under this name.

    `scale` puts a scaler before it: `true` or `robust` one that outliers hardly change, `standard` plain mean and
    variance. The presets `logistic` and `linear` have the robust one unless they ask for `standard`.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Scalar | None] = Field(init=False)

    preset: (
        Literal["logistic", "linear", "adaptive_forest", "hoeffding_tree", "leveraging_bagging", "naive_bayes"] | None
    ) = None
    estimator: Annotated[str, Field(pattern=ESTIMATOR)] | None = None
    trainer: Annotated[str, Field(pattern=TRAINER)] | None = None
    window: Annotated[OutcomeCount, Field(ge=1)] | None = None
    every: Annotated[OutcomeCount, Field(ge=1)] | None = None
    scale: bool | Literal["robust", "standard"] = False

    @property
    def kind(self) -> Literal["online", "batch", "trainer"]:
        """Who trains it: the learner with each outcome, training in a process of its own, or a trainer elsewhere."""
        if self.trainer is not None:
            return "trainer"
        return "online" if self.preset is not None or (self.estimator or "").startswith("river.") else "batch"

    @property
    def parameters(self) -> dict[str, Scalar | None]:
        """What the estimator is built with."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _check_one_of(self) -> Self:
        if sum(one is not None for one in (self.preset, self.estimator, self.trainer)) != 1:
            raise ValueError("needs exactly one of preset, estimator and trainer")
        if self.kind == "online" and (self.window, self.every) != (None, None):
            raise ValueError("window and every are for batch estimators and trainers; this model learns each outcome")
        if self.kind != "online" and self.scale:
            raise ValueError("scale is for models of river")
        return self


class RefreshSpec(SpecPart):
    """After how many outcomes, at least, serving gets a newer version of the champion's line."""

    every: OutcomeCount = 100


class RetrainSpec(SpecPart):
    """What triggers a run, which trains a fresh line. `on_feedback` and `on_labels` count since the last run.

    `below` is a floor in quality of the loop's metric over the last 500 outcomes as served: a run where an error (mae,
    rmse, mape, pinball, log_loss, brier, ece) is above it, where another metric, such as accuracy or f1, is below it.
    `on_data_drift` acts on a drift of features, predictions or labels as `on_drift` does on one of the served error.
    """

    on_drift: bool = True
    on_data_drift: bool = False
    on_feedback: Annotated[int, Field(gt=0)] | None = None
    on_labels: Annotated[int, Field(gt=0)] | None = None
    on_schedule: str | None = None
    below: float | None = None
    cooldown: OutcomeCount = 500

    @field_validator("on_schedule")
    @classmethod
    def _check_schedule(cls, value: str | None) -> str | None:
        if value is not None:
            Cron(value)
        return value


class GateSpec(SpecPart):
    """The confidence that the gate requires, and the outcomes that it requires at least.

    `require` are conditions that a challenger must meet by itself, such as `fairness.sex.equal_opportunity <= 0.1`.
    """

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    min_outcomes: Annotated[OutcomeCount, Field(ge=1)] = 200
    require: Annotated[tuple[ConditionText, ...], Field(max_length=20)] = ()


class RolloutSpec(SpecPart):
    """How a winner takes over: predictions in shadow, then shares of the traffic for `step` outcomes each.

    With an `approval` the candidate goes on predicting at that step until so many different people (`approvals`) have
    approved of it; it is rolled back where they have not within `approval_within`.
    """

    shadow: PredictionCount = 100
    canary: tuple[Share, ...] = (0.05, 0.25, 0.5)
    step: Annotated[OutcomeCount, Field(ge=1)] = 100
    split_by: Literal["prediction", "entity"] = "prediction"
    approval: Literal["none", "before_canary", "before_champion"] = "none"
    approvals: Annotated[int, Field(ge=1, le=MAX_APPROVALS)] = 1
    approval_within: Duration = "7d"

    @property
    def approval_within_s(self) -> float:
        """`approval_within` in seconds, at most MAX_DURATION_S."""
        return min(parse_duration_s(self.approval_within), MAX_DURATION_S)

    @field_validator("canary")
    @classmethod
    def _check_shares_rise(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("shares must rise, such as [5%, 25%, 50%]")
        return value
