"""The parts of a loop spec that say what is watched, expected and reported."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from everloop_schemas.conditions import ConditionText
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop_parts import Name, SpecPart
from everloop_schemas.quantities import Duration, Share, ShareOrAll, parse_count, parse_duration_s

MAX_EXPECTATIONS = 100
MAX_RULES = 50
RULE_NAME = r"^[a-z][a-z0-9_-]{0,62}$"


class ObjectiveSpec(SpecPart):
    """A service level: this share of cases ends within this time."""

    within: Duration
    share: Share = 0.99


class ObjectivesSpec(SpecPart):
    """The loop's service levels, by the way they measure; None has no objective.

    `prediction`: from the time of an observation to its prediction. `learned`: from a label to the line that has
    learned it. `recovered`: from a drift to a champion whose score is as good as before it.
    """

    prediction: ObjectiveSpec | None = None
    learned: ObjectiveSpec | None = None
    recovered: ObjectiveSpec | None = None


class MonitorSpec(SpecPart):
    """What is watched beside the served error.

    `quality`: every metric is measured by version, line and role, and before labels come. `slices` turns it on too;
    `slices` and `fairness` name fields or features whose values divide the loop's outcomes: quality is measured for
    each value of a slice, and groups of a fairness field are compared. `drift` names the features that are compared
    with those that the champion learned from. `anomalies`: each prediction has a score of how unusual its
    observation is.
    `latency_p99` bounds what a prediction may take, for 99 of 100.
    """

    quality: bool = False
    slices: tuple[str, ...] = ()
    fairness: tuple[str, ...] = ()
    drift: Literal["all", "none"] | tuple[Name, ...] = "none"
    anomalies: bool = False
    latency_p99: Duration | None = None
    objectives: ObjectivesSpec = ObjectivesSpec()


class ExpectationSpec(SpecPart):
    """What the values of a field are expected to be, for this share of the observations at least.

    `between` bounds numbers, `one_of` names the values, `present` asks for a value. An observation that breaks it is
    counted, and an alert is raised when too many do; with `then: dead_letter` ingest refuses it as well.
    """

    field: Name
    between: tuple[float, float] | None = None
    one_of: Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=1000)] | None = None
    present: Literal[True] | None = None
    share: ShareOrAll = 1.0
    then: Literal["alert", "dead_letter"] = "alert"

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if sum(one is not None for one in (self.between, self.one_of, self.present)) != 1:
            raise ValueError("needs exactly one of between, one_of and present")
        if self.between is not None and self.between[0] > self.between[1]:
            raise ValueError("between: the first number must not be above the second")
        return self


class AlertRuleSpec(SpecPart):
    """An alert of the loop's own: it fires once `when` has held `for` so many outcomes, or so long."""

    alert: Annotated[str, Field(pattern=RULE_NAME)]
    when: ConditionText
    for_: Annotated[str, Field(max_length=40)] = Field("1 outcome", alias="for")
    severity: Literal["info", "warning", "critical"] = "warning"
    runbook: Annotated[str, Field(max_length=500)] | None = None

    @property
    def outcomes(self) -> int | None:
        """`for` in outcomes, None where it is a duration."""
        return parse_count(self.for_, "outcome") if "outcome" in self.for_ else None

    @property
    def seconds(self) -> float | None:
        """`for` in seconds, None where it is a number of outcomes."""
        return None if "outcome" in self.for_ else parse_duration_s(self.for_)

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.outcomes is None and self.seconds is None:
            raise ValueError("for: must be such as 200 outcomes or 5m")
        return self
