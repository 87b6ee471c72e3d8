"""How the training service and the process of a search speak: a task and rows in a folder, answers as lines on stdout.

The process is `python -m everloop_models.search.child FOLDER PARENT`, and ends with PARENT, the service's process id.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from everloop_schemas.loop import LoopSpec
from everloop_schemas.search import SearchFinishedData, SearchRequestedData, TrialFinishedData

TASK, ROWS = "request.json", "rows.ndjson"
"""Names of the files in the folder. A line of rows is one of a data set (offset, time, prediction_id, features, label),
with the `entity`, which features over time need."""
MAX_LINE_BYTES = 1_000_000


class SearchTask(BaseModel):
    """What to search: `request.json`, with field names as in a loop file.

    The search takes `budget_s` seconds at most; `workers` trials run at the same time, each with `memory_bytes` beside
    its libraries. `ray` is the address of a Ray cluster on which they run instead; empty: in processes here.
    """

    model_config = ConfigDict(frozen=True)

    request: SearchRequestedData
    spec: LoopSpec
    budget_s: float
    workers: Annotated[int, Field(ge=1)] = 1
    memory_bytes: int
    ray: str = ""

    def encode(self) -> bytes:
        """The contents of the file."""
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the file; raises ValueError."""
        return cls.model_validate_json(data)


class Answer(BaseModel):
    """One line of the process: a trial that has ended, or the end of the search, which is the last line.

    `finished` is without `run` and `data_set`, which the service adds. `unavailable` ends the process without an end of
    the search: what it runs on is away, and the service tries again later.
    """

    model_config = ConfigDict(frozen=True)

    trial: TrialFinishedData | None = None
    finished: SearchFinishedData | None = None
    unavailable: str | None = None

    def encode(self) -> bytes:
        """The line, with its end."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Self:
        """Read a line; raises ValueError."""
        return cls.model_validate_json(line)
