"""What the endpoint answers, for the OpenAPI document."""

from __future__ import annotations

from pydantic import BaseModel, Field

from everloop_learning.data_set_columns import ColumnType
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import Task
from everloop_schemas.search import ProposedFeature, SearchRequestedData, TrialFinishedData
from everloop_schemas.training import RunRequestedData, Trigger


class RunDataSet(BaseModel):
    """The outcomes that a run trains on; `digest` and `rows` once they have been read."""

    name: str = Field(description="LOOP@START..END#REVISION")
    loop: str
    start: int
    end: int
    revision: int
    digest: str | None
    rows: int | None


class Run(RunRequestedData):
    """A run: why it was requested, and how it ended."""

    requested: str
    causationid: str | None
    state: str = Field(description="running, trained or failed")
    finished: str | None
    outcomes: int | None
    failure: str | None
    data_set: RunDataSet | None = Field(description="what a model is trained on")  # type: ignore[assignment]
    metrics: dict[str, float] = Field(description="as its trainer reports them")
    seconds: float | None = Field(description="how long it was trained")
    trainer: str | None = Field(description="who trained it")


class RunList(BaseModel):
    """The runs of a loop, oldest first."""

    loop: str
    runs: list[Run]


class Trial(TrialFinishedData):
    """A trial of a search; `score` is the mean of `folds`, `gap` how far it overfits."""

    search: None = Field(None, exclude=True)  # type: ignore[assignment]


class Search(SearchRequestedData):
    """A search for better parameters of a model: what was searched, and how it ended."""

    data_set: RunDataSet = Field(description="the outcomes that are searched")  # type: ignore[assignment]
    requested: str
    actor: str | None
    causationid: str | None
    state: str = Field(description="running, improved, unchanged or failed")
    finished: str | None
    trials_done: int
    best: int | None = Field(description="the number of the best trial; trial 0 is the model as it is")
    best_model: dict[str, Scalar | None] | None = Field(description="the model that challenges, where it improved")
    score: float | None
    base_score: float | None = Field(description="the score of the model as it is")
    run: str | None = Field(description="the run of the line that challenges")
    proposed: list[ProposedFeature] = Field(description="features that were tried")
    seconds: float | None
    failure: str | None
    results: list[Trial] | None = Field(description="the trials in order, where they were asked for")


class SearchList(BaseModel):
    """The last searches of a loop, oldest first."""

    loop: str
    searches: list[Search]


class WaitingRun(BaseModel):
    """There is nothing to learn yet: training starts by itself with the first label."""

    loop: str
    run: None
    state: str
    detail: str


class DescribedDataSetView(BaseModel):
    """What is said of a data set: the types of its features and of its label, and the digest of its rows."""

    name: str = Field(description="LOOP@START..END#REVISION")
    loop: str
    start: int = Field(description="its first offset on the log")
    end: int = Field(description="its last offset")
    revision: int
    digest: str = Field(description="the sha256 of its rows, as they are sent as lines of JSON")
    rows: int
    features: dict[str, ColumnType]
    label: ColumnType
    erased: int = Field(description="outcomes of the range that it lacks, because their persons were erased")


class LeaseView(BaseModel):
    """A trainer has a run until `until`, and may renew that up to `latest`; `number` counts the run's leases."""

    id: str
    number: int
    until: str
    latest: str


class GivenLease(LeaseView):
    """A new lease, with its length in seconds."""

    seconds: float


class NamedDataSet(BaseModel):
    """The outcomes to train on; `GET /v1/loops/{loop}/data-set` has them."""

    name: str
    loop: str
    start: int
    end: int
    revision: int


class LeasedRun(BaseModel):
    """A run that a trainer has taken: what it is asked for."""

    loop: str
    run: str
    line: str
    trainer: str
    trigger: Trigger
    reason: str
    requested: str
    task: Task
    classes: list[Scalar] | None = Field(description="those of the loop file; null where it names none")
    parameters: dict[str, Scalar | None]
    data_set: NamedDataSet
    lease: GivenLease


class TrainerRunEnd(BaseModel):
    """How a run has ended; the line predicts the outcomes after `offset` with the model, as `version`."""

    loop: str
    run: str
    line: str
    state: str = Field(description="trained or failed")
    offset: int
    reason: str | None
    metrics: dict[str, float]
    version: str | None
