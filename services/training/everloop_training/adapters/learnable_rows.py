"""Reads the learnable outcomes of a loop from the log, from any offset on, as the lines learn them."""

from __future__ import annotations

import pickle
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from everloop_learning.data_set import Row
from everloop_learning.learnable import LearnableOutcomes, learned_label
from everloop_learning.loops import KnownLoops
from everloop_learning.outcome import Outcome
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.registry import LoopState
from everloop_shared.messaging.routes import LogReader, Position
from everloop_training.adapters.log_pieces import next_count
from everloop_training.domain.known_past import KnownPast

TOPIC = OutcomeObserved.topic
FIRST_OFFSETS = 500
CHECKPOINT_OFFSETS = 20_000
CHECKPOINTS_PER_LOOP, CHECKPOINT_BYTES = 64, 32_000_000


LogOf = Callable[[str], LogReader]
"""The log as one reader reads that of a loop: with what the archive holds of it, where there is one."""


class Piece(NamedTuple):
    """Consecutive learnable outcomes; `rows_before` is the number of those of the loop before them.

    `undecided` is the last offset among them of which the log does not tell any more whether it is learned.
    """

    rows_before: int
    rows: list[Row]
    next_offset: int
    undecided: int | None = None


class Checkpoint(NamedTuple):
    """What decides which records from `next_offset` on are learned, after `rows` of them.

    `earliest` and `latest` are the times of the rows between the checkpoint before and this one, `last` is the offset
    of the last row before it.
    """

    next_offset: int
    rows: int
    last: int
    state: bytes
    earliest: float
    latest: float


@dataclass
class LoopCheckpoints:
    """The checkpoints of a loop's lifetime on a log that begins at an offset, oldest first."""

    life: int
    begin: int
    all: list[Checkpoint] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The bytes that they hold."""
        return sum(len(c.state) for c in self.all)

    def add(self, checkpoint: Checkpoint) -> None:
        """Add one, if it is the latest; of too many, every second is merged into the next."""
        if self.all and checkpoint.next_offset <= self.all[-1].next_offset:
            return
        self.all.append(checkpoint)
        if len(self.all) > CHECKPOINTS_PER_LOOP:
            pairs = zip(self.all[::2], self.all[1::2], strict=False)
            merged = [
                b._replace(earliest=min(a.earliest, b.earliest), latest=max(a.latest, b.latest)) for a, b in pairs
            ]
            self.all = merged + self.all[2 * len(merged) :]

    def before(self, offset: int) -> Checkpoint | None:
        """The last one from which `offset` can be reached."""
        at = bisect_right(self.all, offset, key=lambda c: c.next_offset)
        return self.all[at - 1] if at else None


@dataclass
class _Scan:
    """Where a scan is: what it has admitted, and what it has seen since the last checkpoint."""

    admitted: LearnableOutcomes
    next_offset: int
    rows: int
    last: int
    past: KnownPast | None
    checked_at: int
    earliest: float = float("inf")
    latest: float = float("-inf")

    def take(self, events: Sequence[tuple[Position, Event]], state: LoopState) -> tuple[list[Row], int | None]:
        """The rows among the next records of the loop, and the last offset of which the past does not tell."""
        rows, undecided, regression = list[Row](), None, state.data.spec.task == "regression"
        for at, event in events:
            if not isinstance(event, OutcomeObserved) or event.loop != state.loop:
                continue
            if self.past is not None and not self.past.decides(event):
                undecided = at.offset
            outcome = self.admitted.admit(Outcome.from_event(event, at.offset))
            label = learned_label(outcome, regression) if outcome else None
            if label is not None:
                data = event.data
                of = at.offset, data.predicted, data.prediction_id, data.features, label, data.entity
                rows.append(Row(*of, sealed=event if data.personal else None))
        self.admitted.forget_history()
        self.rows += len(rows)
        if rows:
            self.last = rows[-1].offset
            times = [row.time.timestamp() for row in rows]
            self.earliest, self.latest = min(self.earliest, *times), max(self.latest, *times)
        return rows, undecided

    def checkpoint(self) -> Checkpoint:
        """Where it is now; the times begin anew."""
        state = pickle.dumps((self.admitted, self.past))
        made = Checkpoint(self.next_offset, self.rows, self.last, state, self.earliest, self.latest)
        self.checked_at, self.earliest, self.latest = self.next_offset, float("inf"), float("-inf")
        return made


class LearnableRows:
    """The rows of every loop, with their personal values sealed, so that those of erased persons are among them.

    Which records are learned depends on all before them: each read begins at a checkpoint.
    Checkpoints are in memory, bounded, and made while the log is read: the first read of a loop begins with the log.
    """

    def __init__(self, loops: KnownLoops, log: LogReader, log_of: LogOf | None = None) -> None:
        self._loops, self._log, self._log_of = loops, log, log_of or (lambda loop: log)
        self._checkpoints: dict[str, LoopCheckpoints] = {}

    async def bounds(self, loop: str) -> tuple[int, int]:
        """The first offset that can be read, on the log or in the archive, and the offset that comes next.

        Raises Unavailable while the broker or the archive's store is away, as all methods do.
        """
        log, partition = self._log_of(loop), self._partition(loop)
        return await log.begin_offset(TOPIC, partition), await log.end_offset(TOPIC, partition)

    async def checkpoints(self, loop: str) -> LoopCheckpoints:
        """The checkpoints of the loop so far; raises LoopNotFound."""
        life = self._loops.require(loop).data.life
        begin = await self._log_of(loop).begin_offset(TOPIC, self._partition(loop))
        known = self._checkpoints.pop(loop, None)
        if known is None or (known.life, known.begin) != (life, begin):
            known = LoopCheckpoints(life, begin)
        self._checkpoints[loop] = known  # the last is the one used last
        while len(self._checkpoints) > 1 and sum(c.size for c in self._checkpoints.values()) > CHECKPOINT_BYTES:
            del self._checkpoints[next(iter(self._checkpoints))]
        return known

    async def read(self, loop: str, start: int, stop: int) -> AsyncGenerator[Piece, None]:
        """The learnable outcomes before the offset `stop`, from a checkpoint at or before `start` on.

        Raises LoopNotFound; where the loop is deleted meanwhile, too.
        """
        checkpoints = await self.checkpoints(loop)
        scan, log = _begin(checkpoints, start), self._log_of(loop)
        partition, count = self._partition(loop), FIRST_OFFSETS
        while scan.next_offset < stop:
            upto = min(scan.next_offset + count, stop)
            events = await log.read(TOPIC, partition, scan.next_offset, upto)
            state = self._loops.require(loop)
            before = scan.rows
            rows, undecided = scan.take([(at, e) for at, e in events if not self._loops.is_past(e)], state)
            scan.next_offset = upto
            if upto - scan.checked_at >= CHECKPOINT_OFFSETS:
                checkpoints.add(scan.checkpoint())
            yield Piece(before, rows, upto, undecided)
            count = next_count(count, count, sum(at.size for at, _ in events))

    def _partition(self, loop: str) -> int:
        return self._log.partition_for(TOPIC, loop.encode())


def _begin(checkpoints: LoopCheckpoints, start: int) -> _Scan:
    found = checkpoints.before(start)
    if found is None:
        begin = checkpoints.begin
        return _Scan(LearnableOutcomes(), begin, 0, -1, KnownPast() if begin else None, begin)
    admitted, past = pickle.loads(found.state)
    return _Scan(admitted, found.next_offset, found.rows, found.last, past, found.next_offset)
