"""What the service and its worker process say to each other: pickled frames over the worker's own pipes."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_schemas.training import RunRequested
from everloop_training.domain.outcome import Outcome

HEADER = struct.Struct("!Q")


class Open(NamedTuple):
    """Take up a partition: restore it, or go on. `end` and `alerts_end` are where outcomes and alerts end now."""

    partition: int
    end: int
    alerts_end: int
    known: Sequence[RunRequested]
    finished: Sequence[str]


class Follow(NamedTuple):
    """A loop's state."""

    state: LoopState


class Learn(NamedTuple):
    """Outcomes of one partition, in order, each with its loop; nothing else lies on the log before `upto`."""

    partition: int
    outcomes: Sequence[tuple[str, Outcome]]
    upto: int = 0


class OnDrift(NamedTuple):
    """An alert; answered by `Answer` under this number."""

    number: int
    partition: int
    offset: int
    event: DriftDetected


class Remind(NamedTuple):
    """Alerts that the worker before this one has heard, each with its offset: what waited then waits again."""

    partition: int
    alerts: Sequence[tuple[int, DriftDetected]]


class Request(NamedTuple):
    """A person's wish for a run; answered by `Answer` under this number."""

    number: int
    loop: str
    key: str
    reason: str


class Fill(NamedTuple):
    """History for a line, as asked for by `Wanted`."""

    wanted: Wanted
    outcomes: Sequence[Outcome]


class Snapshot(NamedTuple):
    """Write snapshots now: the service stops."""


class Opened(NamedTuple):
    """A partition is taken up; its outcomes go on at `next_offset`, its alerts at `next_alert`."""

    partition: int
    next_offset: int
    next_alert: int


class Answer(NamedTuple):
    """To OnDrift and Request: the run, or None; `behind` where the outcomes are not learned yet."""

    number: int
    request: RunRequested | None
    behind: bool = False


class Learned(NamedTuple):
    """Events to publish, in order; `outcomes` of those sent, records of `size` bytes in all, are worked off."""

    events: Sequence[Event]
    outcomes: int = 0
    size: int = 0


class Refused(NamedTuple):
    """An error over the outcome at an offset: the partition is closed, and waits for an `Open` to do without it."""

    partition: int
    offset: int
    reason: str


class Wanted(NamedTuple):
    """A line needs history: start <= offset < stop."""

    loop: str
    partition: int
    line: str
    start: int
    stop: int


class SnapshotWritten(NamedTuple):
    """A snapshot lies at `path`; it counts once it is renamed to `final`, after all events before it are out."""

    path: str
    final: str
    next_offset: int


class Done(NamedTuple):
    """All snapshots asked for are written."""


def frame(message: Any) -> bytes:
    """A message as bytes: its length, then its pickle."""
    body = pickle.dumps(message, protocol=5)
    return HEADER.pack(len(body)) + body
