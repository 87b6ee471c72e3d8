"""The requests about runs, within MLflow's own limits."""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, isinf, isnan
from sys import float_info
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, BaseModel, Field

from everloop_registry.api.mlflow.access import Named
from everloop_registry.api.mlflow.requests import Filter, Id, Key, Listed, MlflowRequest, OrderBy, TextKey, Token
from everloop_registry.domain.run_search import ViewType
from everloop_schemas.tracking import DataSetInput, Metric, RunStatus

MAX_PARAMETER, MAX_TAG = 6_000, 8_000
MAX_TEXTS, MAX_METRICS, MAX_INPUTS = 100, 1_000, 100
MAX_TEXT_BYTES = 65_535
Millis = Annotated[int, Field(ge=-(2**53), le=2**53)]
Step = Annotated[int, Field(ge=-(2**63), lt=2**63)]


def _printable(key: str) -> str:
    if not key.isprintable():
        raise ValueError("has characters that cannot be shown")
    return key


LoggedKey = Annotated[Key, AfterValidator(_printable)]


def _named_models(models: Sequence[str | None]) -> list[Named]:
    return [Named("logged model", model) for model in dict.fromkeys(models) if model]


class ByRun(MlflowRequest):
    """A run by its id; `run_uuid` is what clients called it once."""

    run_id: Id = Field(validation_alias=AliasChoices("run_id", "run_uuid"))

    def named(self) -> list[Named]:
        """The run."""
        return [Named("run", self.run_id)]


class Tag(MlflowRequest):
    """A tag of a run."""

    key: LoggedKey
    value: str = Field("", max_length=MAX_TAG)


class Parameter(MlflowRequest):
    """A parameter of a run."""

    key: LoggedKey
    value: str = Field("", max_length=MAX_PARAMETER)


class LoggedMetric(MlflowRequest):
    """A value of a metric; NaN and infinity are texts in JSON."""

    key: LoggedKey
    value: float
    timestamp: Millis
    step: Step = 0
    model_id: Id | None = None
    dataset_name: str | None = Field(None, max_length=500)
    dataset_digest: str | None = Field(None, max_length=64)

    def metric(self) -> Metric:
        """The value as it is stored: NaN is marked, infinity is the largest float."""
        value = copysign(float_info.max, self.value) if isinf(self.value) else self.value
        return Metric(
            key=self.key,
            value=0.0 if isnan(value) else value,
            nan=isnan(value),
            step=self.step,
            time_ms=self.timestamp,
            model=self.model_id,
            data_set=self.dataset_name,
            digest=self.dataset_digest,
        )


class CreateRun(MlflowRequest):
    """A new run."""

    experiment_id: Id = "0"
    user_id: str = Field("", max_length=256)
    run_name: str = Field("", max_length=500)
    start_time: Millis | None = None
    tags: tuple[Tag, ...] = Field((), max_length=MAX_TEXTS)

    def named(self) -> list[Named]:
        """The experiment."""
        return [Named("experiment", self.experiment_id)]


class UpdateRun(ByRun):
    """A new state of a run."""

    status: RunStatus | None = None
    end_time: Millis | None = None
    run_name: str | None = Field(None, max_length=500)


class LogMetric(ByRun, LoggedMetric):
    """One value of a metric."""

    def named(self) -> list[Named]:
        """The run, and the logged model that the value is of."""
        return [*super().named(), *_named_models([self.model_id])]


class LogParameter(ByRun, Parameter):
    """One parameter."""


class SetTag(ByRun, Tag):
    """One tag."""


class DeleteTag(ByRun, TextKey):
    """A tag by its key."""


class LogBatch(ByRun):
    """Many values at once."""

    metrics: tuple[LoggedMetric, ...] = Field((), max_length=MAX_METRICS)
    params: tuple[Parameter, ...] = Field((), max_length=MAX_TEXTS)
    tags: tuple[Tag, ...] = Field((), max_length=MAX_TEXTS)

    def named(self) -> list[Named]:
        """The run, and the logged models that values are of."""
        return [*super().named(), *_named_models([metric.model_id for metric in self.metrics])]


class InputTag(BaseModel):
    """A tag of an input."""

    key: str = Field(max_length=255)
    value: str = Field("", max_length=500)


class LoggedDataSet(BaseModel):
    """A data set."""

    name: str = Field(min_length=1, max_length=500)
    digest: str = Field(min_length=1, max_length=64)
    source_type: str = Field("", max_length=100)
    source: str = Field("", max_length=MAX_TEXT_BYTES)
    columns: str | None = Field(None, max_length=MAX_TEXT_BYTES, validation_alias="schema")
    profile: str | None = Field(None, max_length=MAX_TEXT_BYTES)


class LoggedInput(BaseModel):
    """A data set that a run read, and what for."""

    dataset: LoggedDataSet
    tags: tuple[InputTag, ...] = Field((), max_length=20)

    def data_set(self) -> DataSetInput:
        """As it is stored."""
        tags = {tag.key: tag.value for tag in self.tags}
        return DataSetInput(**self.dataset.model_dump(), tags=tags)


class ModelInput(BaseModel):
    """A logged model that a run read or made."""

    model_id: Id
    step: Step = 0


class LogInputs(ByRun):
    """What a run read."""

    datasets: tuple[LoggedInput, ...] = Field((), max_length=MAX_INPUTS)
    models: tuple[ModelInput, ...] = Field((), max_length=MAX_INPUTS)

    def named(self) -> list[Named]:
        """The run, and the logged models."""
        return [*super().named(), *_named_models([model.model_id for model in self.models])]


class LogOutputs(ByRun):
    """What a run made."""

    models: tuple[ModelInput, ...] = Field((), max_length=MAX_INPUTS)

    def named(self) -> list[Named]:
        """The run, and the logged models."""
        return [*super().named(), *_named_models([model.model_id for model in self.models])]


class SearchRuns(MlflowRequest):
    """Which runs."""

    experiment_ids: Annotated[tuple[Id, ...], Field(max_length=1_000), Listed] = ()
    filter: Filter | None = None
    run_view_type: ViewType = "ACTIVE_ONLY"
    max_results: int = Field(1_000, ge=1, le=50_000)
    order_by: Annotated[OrderBy, Listed] = ()
    page_token: Token | None = None


class MetricHistory(ByRun):
    """All values of a metric."""

    metric_key: Key
    max_results: int | None = Field(None, ge=1, le=1_000_000)
    page_token: Token | None = None
