"""What comes back from a training run, and how the learners answer it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from everloop_schemas.training import DataSet, RunFinished, StoredModel

NO_METRICS: Mapping[str, float] = {}
REASON_CHARACTERS = 500
"""Of why a run has failed or a line broke, at most; a reason that is given again is compared with what was kept."""


class TrainedModel(NamedTuple):
    """A model that a run has trained, in the store; what its trainer says of it is as in RunFinished."""

    stored: StoredModel
    data_set: DataSet | None = None
    metrics: Mapping[str, float] = NO_METRICS
    seconds: float | None = None
    trainer: str | None = None


class EndReply(NamedTuple):
    """The end of a run, the first one that it had; None where no run with this id is known here.

    `behind` where the learners have yet to learn the log, or cannot load the model yet.
    """

    finished: RunFinished | None
    behind: bool = False
