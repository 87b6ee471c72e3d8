"""Where versions came from: runs with the event behind them, the versions of each, and what was decided about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from everloop_schemas.registry import Decided
from everloop_schemas.training import ModelTrainedData

MAX_RUNS, MAX_VERSIONS, MAX_DECISIONS = 50, 200, 200
"""In one answer: of runs that a drift led to, of versions of a run, and of decisions about each run's line."""


class OriginVersion(NamedTuple):
    """A version, its number, and when it was registered."""

    number: int
    model: ModelTrainedData
    registered: datetime


class RunOrigin(NamedTuple):
    """A run of training; what is not known of it is None.

    `causationid` is the id of the event behind it: of a drift, of an outcome. `versions` are the newest ones below a
    number, newest first; `more` says whether there are older ones. `decisions` are about its line, oldest first.
    """

    run: str
    line: str
    trigger: str | None
    reason: str | None
    causationid: str | None
    requested_by: str | None
    requested: datetime | None
    state: str | None
    data_sets: Sequence[str]
    versions: Sequence[OriginVersion]
    more: bool
    decisions: Sequence[Decided]
