"""What becomes of a record whose handler raised: another try, the dead letter, or the end of the process."""

from __future__ import annotations

import logging
import random
import time
from collections import deque

from everloop_schemas.envelope import Event
from everloop_shared import metrics
from everloop_shared.errors import Disposition, EverloopError, Rejected
from everloop_shared.messaging.crash_ledger import CrashLedger
from everloop_shared.messaging.dead_letter import dead_letter
from everloop_shared.messaging.routes import Position

log = logging.getLogger(__name__)
CRASHES_BEFORE_PARKING = 3
SHORTEST_BACKOFF_S, LONGEST_BACKOFF_S = 0.05, 5.0
WATCHED_RECORDS, FEWEST_BAD = 1000, 100


class TooManyDeadLetters(EverloopError):
    """More than half of the latest records were refused: something is wrong with the service, not with them."""

    title = "Too many dead letters"


def disposition(error: Exception) -> Disposition:
    """The fate an error asks for; one that nobody thought of crashes."""
    return error.disposition if isinstance(error, EverloopError) else Disposition.CRASH


class Fates:
    """Keeps count of tries, crashes and dead letters for one service."""

    def __init__(self, service: str, ledger: CrashLedger) -> None:
        self._service = service
        self._ledger = ledger
        self._tries: dict[tuple[str, int], tuple[int, float, int]] = {}
        self._latest: deque[bool] = deque(maxlen=WATCHED_RECORDS)

    def handled(self, at: Position) -> None:
        """A record went well."""
        self._tries.pop((at.topic, at.partition), None)
        self._latest.append(False)

    def retried(self, at: Position) -> float:
        """Count one more try of the record at this position; returns the seconds since the first."""
        partition, now = (at.topic, at.partition), time.monotonic()
        offset, since, tries = self._tries.get(partition, (at.offset, now, 0))
        if offset != at.offset:
            since, tries = now, 0
        self._tries[partition] = (at.offset, since, tries + 1)
        return now - since

    def backoff_s(self, partition: tuple[str, int]) -> float:
        """Seconds until the next try: doubling from 50 ms to 5 s, with jitter (half to whole)."""
        tries = self._tries.get(partition, (0, 0.0, 1))[2]
        longest = min(SHORTEST_BACKOFF_S * 2 ** min(tries - 1, 10), LONGEST_BACKOFF_S)
        return float(longest * random.uniform(0.5, 1.0))

    def may_retry(self, at: Position, error: Exception) -> bool:
        """Whether the record is to be tried again, and count the try."""
        if not isinstance(error, EverloopError) or error.disposition is not Disposition.RETRY:
            return False
        waited_s = self.retried(at)
        again = error.give_up_after is None or waited_s < error.give_up_after
        if again:
            metrics.RETRIES.labels(self._service, at.topic).inc()
        return again

    def park(self, at: Position, key: bytes | None, value: bytes | None, error: Exception) -> Event:
        """The dead letter of a record that is given up.

        Raises the error itself where it asks for a crash and the record has not crashed three times yet, and
        TooManyDeadLetters when more than half of the latest 1,000 records (100 at least) were parked.
        """
        if disposition(error) is Disposition.CRASH:
            if self._ledger.add(at) < CRASHES_BEFORE_PARKING:
                raise error
            error = Rejected(f"crash_loop: crashed {CRASHES_BEFORE_PARKING} times: {error!r}")
        self._tries.pop((at.topic, at.partition), None)
        self._latest.append(True)
        if (bad := sum(self._latest)) >= FEWEST_BAD and bad > len(self._latest) / 2:
            raise TooManyDeadLetters(f"{bad} of the latest {len(self._latest)} records were refused; last: {error}")
        where = {"topic": at.topic, "partition": at.partition, "offset": at.offset}
        log.warning("dead letter", extra={**where, "error": type(error).__name__, "reason": str(error)[:500]})
        metrics.DEAD_LETTERS.labels(self._service, at.topic, type(error).__name__).inc()
        return dead_letter(self._service, at, key, value, error)
