"""What becomes of a record whose handler raised: another try, the dead letter, or the end of the process."""

from __future__ import annotations

import logging
import time

from everloop_schemas.envelope import Event
from everloop_shared import metrics
from everloop_shared.backoff import Backoff
from everloop_shared.errors import Disposition, InputRejected, ServiceError
from everloop_shared.messaging.processing.crash_ledger import CrashLedger
from everloop_shared.messaging.processing.dead_letter import make_dead_letter
from everloop_shared.messaging.processing.wait_budget import WaitBudget
from everloop_shared.messaging.routes import Position

log = logging.getLogger(__name__)
CRASHES_BEFORE_DEAD_LETTER = 3
BACKOFF = Backoff(first_s=0.05, longest_s=5.0)
RECORD_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading a record, checking it and calculating with it can raise (decision 0101)."""


def disposition_of(error: Exception) -> Disposition:
    """The fate an error asks for: its own, the dead letter where a record can cause it, else a crash."""
    if isinstance(error, ServiceError):
        return error.disposition
    from_record = isinstance(error, RECORD_ERRORS) and not isinstance(error, OSError)
    return Disposition.DEAD_LETTER if from_record else Disposition.CRASH


class FailurePolicy:
    """Keeps count of tries and crashes for one consumer, and of how long it has waited for unknown loops."""

    def __init__(self, service: str, ledger: CrashLedger) -> None:
        self._service = service
        self._ledger = ledger
        self._wait_budget = WaitBudget()
        self._tries: dict[tuple[str, int], tuple[int, float, int]] = {}

    def record_success(self, at: Position, loop: str) -> None:
        """A record of a loop went well."""
        self._tries.pop((at.topic, at.partition), None)
        if self._wait_budget.given_up:
            self._wait_budget.given_up.pop(loop, None)

    def count_retry(self, at: Position) -> float:
        """Count one more try of the record at this position; returns the seconds since the first."""
        partition, now = (at.topic, at.partition), time.monotonic()
        offset, since, tries = self._tries.get(partition, (at.offset, now, 0))
        if offset != at.offset:
            since, tries = now, 0
        self._tries[partition] = (at.offset, since, tries + 1)
        return now - since

    def backoff_s(self, partition: tuple[str, int]) -> float:
        """Seconds until the next try."""
        return BACKOFF.pause_s(self._tries.get(partition, (0, 0.0, 1))[2])

    def may_retry(self, at: Position, error: Exception, loop: str = "") -> bool:
        """Whether the record, which is of this loop, is to be tried again, and count the try."""
        if not isinstance(error, ServiceError) or error.disposition is not Disposition.RETRY:
            return False
        waited_s = self.count_retry(at)
        if error.give_up_after is not None:
            partition = (at.topic, at.partition)
            if not self._wait_budget.may_wait(partition, loop, waited_s, error.give_up_after):
                return False
        metrics.RETRIES.labels(self._service, at.topic).inc()
        return True

    def make_dead_letter(
        self, at: Position, key: bytes | None, value: bytes | None, error: Exception, in_handler: bool = True
    ) -> Event:
        """The dead letter of a record that is given up.

        Raises the error itself where it asks for a crash and the record has not crashed three times yet. Where it
        is not `in_handler` (it came from around the handler), whatever has no fate of its own is a crash.
        """
        ours = isinstance(error, ServiceError)
        if disposition_of(error) is Disposition.CRASH or not (ours or in_handler):
            if self._ledger.add(at) < CRASHES_BEFORE_DEAD_LETTER:
                raise error
            error = InputRejected(f"crash_loop: crashed {CRASHES_BEFORE_DEAD_LETTER} times: {error!r}")
        self._tries.pop((at.topic, at.partition), None)
        letter = make_dead_letter(self._service, at, key, value, error)
        where = {"topic": at.topic, "partition": at.partition, "offset": at.offset}
        what = {"error": letter.data.error, "reason": letter.data.reason[:500]}
        log.warning("dead letter", extra=where | what, exc_info=None if ours else error)
        metrics.DEAD_LETTERS.labels(self._service, at.topic, letter.data.error).inc()
        return letter
