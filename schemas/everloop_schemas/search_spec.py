"""The part of a loop spec that says how better parameters are searched for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from everloop_schemas.envelope import Scalar
from everloop_schemas.loop_parts import SpecPart
from everloop_schemas.quantities import MAX_DURATION_S, Duration, OutcomeCount, parse_duration_s

_FORMS = "needs a list of two numbers, or exactly one of between, log and choice"
PARAMETER_PATH = r"^models\.(0|[1-9][0-9]?)\.[A-Za-z_][A-Za-z0-9_]{0,62}$"


class ParameterRange(SpecPart):
    """The values that a parameter may take: `between` two bounds, both included, `log` the same by ratio, or `choice`.

    A list of two numbers, such as [3, 10], is short for `between`. Between two whole numbers only whole ones are tried.
    """

    between: tuple[int | float, int | float] | None = None
    log: tuple[int | float, int | float] | None = None
    choice: Annotated[tuple[Scalar, ...], Field(min_length=2, max_length=100)] | None = None

    @property
    def bounds(self) -> tuple[int | float, int | float] | None:
        """The bounds of numbers, None of a choice."""
        return self.between or self.log

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return {"between": value}
        if not isinstance(value, dict | ParameterRange):
            raise ValueError(_FORMS)
        return value

    @model_validator(mode="after")
    def _check_form(self) -> ParameterRange:
        if sum(one is not None for one in (self.between, self.log, self.choice)) != 1:
            raise ValueError(_FORMS)
        bounds = self.bounds
        if bounds is not None and any(isinstance(bound, bool) for bound in bounds):
            raise ValueError("bounds must be numbers; write choice for true and false")
        if bounds is not None and bounds[0] >= bounds[1]:
            raise ValueError(f"the first bound, {bounds[0]:g}, must be below the second, {bounds[1]:g}")
        if self.log is not None and self.log[0] <= 0:
            raise ValueError("log needs bounds above 0")
        return self


class SearchSpec(SpecPart):
    """Searches for better parameters of the loop's models, again after every `every` outcomes, on the last `window`.

    `space` names them by their place, such as `models.0.max_depth`; models are searched one by one, each with
    `trials` trials, within `budget`. The best one of a model challenges, if it is better than the model as it is;
    nothing else changes. `metric` is the loop's unless given. `features` is the number of further features (windows
    and ratios) that are proposed from the schema and tried the same way; they are reported, and never applied.
    """

    trials: Annotated[int, Field(ge=1, le=1_000)] = 40
    metric: str | None = None
    space: dict[Annotated[str, Field(pattern=PARAMETER_PATH)], ParameterRange] = Field(
        default_factory=dict, max_length=50
    )
    every: Annotated[OutcomeCount, Field(ge=100)] = 20_000
    window: Annotated[OutcomeCount, Field(ge=100, le=1_000_000)] = 20_000
    budget: Duration = "10m"
    features: Annotated[int, Field(ge=0, le=100)] = 0

    @property
    def budget_s(self) -> float:
        """`budget` in seconds."""
        return min(parse_duration_s(self.budget), MAX_DURATION_S)

    def of_model(self, index: int) -> dict[str, ParameterRange]:
        """The ranges of one model's parameters, by the parameter's name."""
        prefix = f"models.{index}."
        return {path.removeprefix(prefix): one for path, one in self.space.items() if path.startswith(prefix)}

    @model_validator(mode="after")
    def _check_something_is_searched(self) -> SearchSpec:
        if not self.space and not self.features:
            raise ValueError("needs a space, such as {models.0.max_depth: [3, 10]}, or a number of features")
        return self
