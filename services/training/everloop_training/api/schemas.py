"""What the endpoint answers, for the OpenAPI document."""

from __future__ import annotations

from pydantic import BaseModel, Field

from everloop_learning.data_set_columns import ColumnType
from everloop_schemas.training import RunRequestedData


class Run(RunRequestedData):
    """A run: why it was requested, and how it ended."""

    requested: str
    causationid: str | None
    state: str = Field(description="running, trained or failed")
    finished: str | None
    outcomes: int | None
    failure: str | None


class RunList(BaseModel):
    """The runs of a loop, oldest first."""

    loop: str
    runs: list[Run]


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
