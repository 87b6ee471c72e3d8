"""Since when archiving fails, and why: for the log, the metrics and people."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable
from typing import NamedTuple

from everloop_archive.layout import Kind
from everloop_shared.errors import ServiceError
from everloop_training.metrics import ARCHIVE_FAILING, ARCHIVE_FAILURES

log = logging.getLogger(__name__)


class _Failure(NamedTuple):
    since: float
    reason: str


class ArchiveFailures:
    """What has failed and has not succeeded since, of one kind of table; `doing` says what it is about.

    What works elsewhere does not hide it.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._failures: dict[Hashable, _Failure] = {}
        self._count = ARCHIVE_FAILURES.labels(kind)
        ARCHIVE_FAILING.labels(kind).set_function(self.failing_s)

    def failing_s(self) -> float:
        """Seconds since the oldest failure without a success after it, 0 without one."""
        return time.monotonic() - min(f.since for f in self._failures.values()) if self._failures else 0.0

    def record(self, doing: Hashable, error: Exception) -> None:
        """Count a failure; the first of a row is logged, an unexpected one with its traceback."""
        self._count.inc()
        known, expected = self._failures.get(doing), isinstance(error, ServiceError)
        reason = error.detail if isinstance(error, ServiceError) else repr(error)
        self._failures[doing] = _Failure(known.since if known else time.monotonic(), reason)
        if known is None:
            extra = {"kind": self._kind, "reason": reason}
            log.error("archiving fails, trying again", extra=extra, exc_info=None if expected else error)

    def clear(self, doing: Hashable) -> None:
        """It has succeeded, or is another's now."""
        failure = self._failures.pop(doing, None)
        if failure is not None:
            log.warning("archiving goes on", extra={"kind": self._kind, "after_reason": failure.reason})

    def remark(self) -> str | None:
        """What fails and for how long, None while nothing does."""
        if not self._failures:
            return None
        reason = min(self._failures.values()).reason
        return f"no {self._kind} are archived for {self.failing_s():.0f} s: {reason}"
