"""The runs that trainers elsewhere take: which are open, which has taken another's place, and what comes back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from everloop_schemas.training import RunRequested

if TYPE_CHECKING:
    from everloop_models.formats.onnx.interface import GivenInterface


@dataclass(frozen=True)
class TrainerAnswer:
    """The ONNX file that a trainer has made of a run, and what it says of it.

    `digest` and `rows` are those of the data set as it read it.
    """

    file: IO[bytes]
    given: GivenInterface
    metrics: dict[str, float]
    digest: str | None
    rows: int | None


def is_for_trainers(run: RunRequested) -> bool:
    """Whether a run asks trainers elsewhere for a model."""
    return run.data.data_set is not None and run.data.model.kind == "trainer"


def open_for(trainer: str, open_runs: Iterable[RunRequested]) -> list[RunRequested]:
    """The runs that a trainer may take, oldest first: of each line the newest."""
    newest = {run.data.line: run for run in open_runs if is_for_trainers(run) and run.data.model.trainer == trainer}
    return list(newest.values())


def newer_run(run: RunRequested, runs: Iterable[RunRequested]) -> RunRequested | None:
    """The latest run of the same line that asks for a model trained on later outcomes."""
    later = [
        other
        for other in runs
        if other.data.line == run.data.line
        and is_for_trainers(other)
        and other.data.requested_offset > run.data.requested_offset
    ]
    return max(later, key=lambda r: r.data.requested_offset, default=None)
