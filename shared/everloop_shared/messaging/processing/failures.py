"""Decides what follows when a handler raises: a retry, a dead letter, or the end of the process."""

from __future__ import annotations

import logging
import time

from everloop_schemas.envelope import Event
from everloop_shared import metrics
from everloop_shared.backoff import Backoff
from everloop_shared.errors import Disposition, InputRejected, Overloaded, ServiceError
from everloop_shared.messaging.processing.crash_ledger import CrashLedger
from everloop_shared.messaging.processing.dead_letter import make_dead_letter
from everloop_shared.messaging.processing.wait_budget import WaitBudget
from everloop_shared.messaging.routes import Partition, Position

log = logging.getLogger(__name__)
CRASHES_BEFORE_DEAD_LETTER = 3
"""A record that crashes the process so often becomes a dead letter, so that the service can go on."""
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
"""What decoding, checking and calculating with a record can raise; the record is at fault then (decision 0101)."""


def disposition_of(error: Exception) -> Disposition:
    """The disposition of an error: its own, DEAD_LETTER where a record can cause it, else CRASH."""
    if isinstance(error, ServiceError):
        return error.disposition
    from_record = isinstance(error, RECORD_ERRORS) and not isinstance(error, OSError)
    return Disposition.DEAD_LETTER if from_record else Disposition.CRASH


class FailurePolicy:
    """Applies retries, dead letters and crashes for one consumer, and counts attempts, crashes and waits."""

    def __init__(self, service: str, ledger: CrashLedger) -> None:
        self._service = service
        self._ledger = ledger
        self._wait_budget = WaitBudget()
        self._attempts: dict[tuple[str, int], tuple[int, float, int]] = {}

    def record_success(self, at: Position, loop: str) -> None:
        """The record was handled: its partition's backoff restarts, and its loop may be waited for again."""
        self._attempts.pop((at.topic, at.partition), None)
        if self._wait_budget.given_up:
            self._wait_budget.given_up.pop(loop, None)

    def count_retry(self, at: Position) -> float:
        """Count one more attempt at the record at this position; returns the seconds since the first."""
        partition, now = (at.topic, at.partition), time.monotonic()
        offset, since, attempts = self._attempts.get(partition, (at.offset, now, 0))
        if offset != at.offset:
            since, attempts = now, 0
        self._attempts[partition] = (at.offset, since, attempts + 1)
        return now - since

    def backoff_s(self, partition: Partition) -> float:
        """Seconds until the next attempt."""
        return BACKOFF.pause_s(self._attempts.get(partition, (0, 0.0, 1))[2])

    def may_retry(self, at: Position, error: Exception, loop: str = "") -> bool:
        """Whether to retry the record, which is of this loop; counts the attempt.

        One that waits because this process has enough to do is not counted by the metric: nothing is wrong with it.
        """
        if not isinstance(error, ServiceError) or error.disposition is not Disposition.RETRY:
            return False
        waited_s = self.count_retry(at)
        if error.give_up_after is not None:
            partition = (at.topic, at.partition)
            if not self._wait_budget.may_wait(partition, loop, waited_s, error.give_up_after):
                return False
        if not isinstance(error, Overloaded):
            metrics.RETRIES.labels(self._service, at.topic).inc()
        return True

    def make_dead_letter(
        self, at: Position, key: bytes | None, value: bytes | None, error: Exception, in_handler: bool = True
    ) -> Event:
        """The dead letter of a record that cannot be processed.

        Raises the error itself where it requires a crash and the record has not crashed the process three times yet.
        An error from outside of the handler (not `in_handler`) is a crash unless it is a ServiceError: it says
        something about the process, not about the record.
        """
        is_service_error = isinstance(error, ServiceError)
        if disposition_of(error) is Disposition.CRASH or not (is_service_error or in_handler):
            if self._ledger.add(at) < CRASHES_BEFORE_DEAD_LETTER:
                raise error
            error = InputRejected(f"crash_loop: crashed {CRASHES_BEFORE_DEAD_LETTER} times: {error!r}")
        self._attempts.pop((at.topic, at.partition), None)
        dead_letter = make_dead_letter(self._service, at, key, value, error)
        position = {"topic": at.topic, "partition": at.partition, "offset": at.offset}
        reason = {"error": dead_letter.data.error, "reason": dead_letter.data.reason[:500]}
        log.warning("dead letter", extra=position | reason, exc_info=None if is_service_error else error)
        metrics.DEAD_LETTERS.labels(self._service, at.topic, dead_letter.data.error).inc()
        return dead_letter
