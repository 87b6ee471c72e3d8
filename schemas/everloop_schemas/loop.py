"""The loop spec: the one YAML file that describes a loop.

The classes accept what earlier releases accepted, so that stored specs are read; the registry's `apply` checks more.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self
from unicodedata import normalize

from pydantic import ConfigDict, Field, model_validator

from everloop_schemas.envelope import Scalar
from everloop_schemas.loop_parts import (
    FeatureSpec,
    FieldSpec,
    GateSpec,
    LabelSpec,
    ModelSpec,
    Name,
    RefreshSpec,
    RetentionSpec,
    RetrainSpec,
    RolloutSpec,
    SpecPart,
)
from everloop_schemas.monitor_spec import MAX_EXPECTATIONS, MAX_RULES, AlertRuleSpec, ExpectationSpec, MonitorSpec
from everloop_schemas.names import LOOP_NAME
from everloop_schemas.search_spec import SearchSpec
from everloop_schemas.sources import MAX_SOURCES, SourceSpec

Task = Literal["binary", "multiclass", "regression"]
UNKNOWN_CLASS: dict[str, Scalar] = {"string": "<unknown>", "integer": -(2**63)}
"""By label type, what a multiclass loop without named classes predicts before its first label; no label may be it."""
LABEL_LIMIT = 1e19
"""The largest label of a regression loop without `label.max`: beyond every integer of 64 bits."""
METRICS: dict[str, tuple[str, ...]] = {
    "binary": (
        "accuracy",
        "balanced_accuracy",
        "precision",
        "recall",
        "f1",
        "f1_macro",
        "roc_auc",
        "pr_auc",
        "log_loss",
        "brier",
        "ece",
    ),
    "multiclass": ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "log_loss", "brier", "ece"),
    "regression": ("mae", "rmse", "r2", "mape", "pinball", "pinball_10", "pinball_90"),
}
"""By task, the metrics that a spec may name; the first is the default. `pinball` is that of the median, the others of
the quantiles 0.1 and 0.9; of many classes, precision, recall and F1 are means over classes."""


class LoopSpec(SpecPart):
    """One loop, whole. Only `loop`, `task` and `schema` have no default."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )

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
    expect: tuple[ExpectationSpec, ...] = Field((), max_length=MAX_EXPECTATIONS)
    alerts: tuple[AlertRuleSpec, ...] = Field((), max_length=MAX_RULES)
    search: SearchSpec | None = None
    retention: RetentionSpec = RetentionSpec()
    sources: tuple[SourceSpec, ...] = Field((), max_length=MAX_SOURCES)

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults_by_task(cls, data: Any) -> Any:
        task = data.get("task") if isinstance(data, dict) else None
        if not isinstance(task, str) or task not in METRICS:
            return data
        filled = dict(data)
        filled.setdefault("metric", METRICS[task][0])
        if not filled.get("models"):
            filled["models"] = [{"preset": "linear" if task == "regression" else "logistic"}]
        return filled

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
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
            raise ValueError("schema.label: the name is reserved for the label; give the field another name")
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

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in the order of the spec."""
        names = dict[str, None]()
        for feature in self.features:
            given = self.fields if feature.fields == "all" else feature.fields or (feature.name or "",)
            names |= dict.fromkeys(given)
        return tuple(names)

    @cached_property
    def personal_fields(self) -> frozenset[str]:
        """The fields whose values are sealed."""
        return frozenset(name for name, field in self.fields.items() if field.personal)

    @cached_property
    def personal_features(self) -> frozenset[str]:
        """The features that follow from a personal field: as it is, by a window, or by an expression of such."""
        if not self.personal_fields:
            return frozenset()
        found = set(self.personal_fields)
        for feature in self.features:
            used = _words(feature.expr) if feature.expr else {feature.field}
            if feature.name and used & found:
                found.add(feature.name)
        return frozenset(found & set(self.feature_names))

    @cached_property
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
    def unknown_class(self) -> Scalar | None:
        """What a multiclass loop without named classes predicts before its first label; None for other loops."""
        open_classes = self.task == "multiclass" and not self.label.classes
        return UNKNOWN_CLASS.get(self.label_type) if open_classes else None

    @property
    def initial_prediction(self) -> Scalar:
        """What is predicted before the first label: 0, the first class, `unknown_class`, or false."""
        if self.task == "regression":
            return 0.0
        if self.label.classes:
            return self.label.classes[0]
        return False if self.unknown_class is None else self.unknown_class


def _words(expression: str) -> set[str]:
    """Every name in an expression, and more: Python takes names in their NFKC form."""
    return set(re.findall(r"\w+", normalize("NFKC", expression)))
