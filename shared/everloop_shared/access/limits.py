"""How much a caller may ask for: token buckets of requests, rows and bytes, and requests in progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

LARGEST = 10**12
SECOND_CHANCE_S = 1.0
"""When somebody with too many requests in progress should ask again."""


class Limits(BaseModel):
    """The limits of one caller, in units per second but for `in_progress`; 0 means none."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    requests_per_s: float = Field(0, ge=0, le=LARGEST)
    rows_per_s: float = Field(0, ge=0, le=LARGEST)
    bytes_per_s: float = Field(0, ge=0, le=LARGEST)
    in_progress: int = Field(0, ge=0, le=LARGEST)


RATES = ("requests_per_s", "rows_per_s", "bytes_per_s")
IN_PROGRESS = "in_progress"


class Excess(NamedTuple):
    """Which limit a caller has reached, how high it is, and after how many seconds there is room again."""

    limit: str
    most: float
    wait_s: float


class Bucket:
    """A token bucket (RFC 2697's committed part) that may be overdrawn; amounts are in units, times in seconds.

    What a request takes, its bytes and rows, is known once it has been read. So a request is admitted while there is a
    whole unit in the bucket, and what it takes is paid for by those that come after: over time the rate is kept to,
    and a single request that is larger than the bucket gets through.
    """

    __slots__ = ("_at", "_capacity", "_level", "rate")

    def __init__(self, rate: float, burst_s: float, now: float) -> None:
        self.rate, self._at = rate, now
        self._capacity = self._level = max(1.0, rate * burst_s)

    def wait_s(self, now: float) -> float:
        """Seconds until a request may pass; 0 where it may."""
        self._level = min(self._capacity, self._level + (now - self._at) * self.rate)
        self._at = now
        return 0.0 if self._level >= 1.0 else (1.0 - self._level) / self.rate

    def take(self, amount: float) -> None:
        """Take what a request has used."""
        self._level -= amount

    def change(self, rate: float, burst_s: float, now: float) -> None:
        """Go on at another rate; what was taken stays taken."""
        self.wait_s(now)
        self.rate, self._capacity = rate, max(1.0, rate * burst_s)
        self._level = min(self._level, self._capacity)


class Caller:
    """What one caller has used of its limits."""

    __slots__ = ("_buckets", "_burst_s", "in_progress", "limits", "name", "refused_at", "told_at")

    def __init__(self, name: str, limits: Limits, burst_s: float, now: float) -> None:
        self.name, self.limits, self._burst_s = name, limits, burst_s
        self.in_progress = 0
        self.refused_at, self.told_at = now, float("-inf")
        """When its last refusal is answered, and when the log was told of one."""
        self._buckets: dict[str, Bucket] = {}
        self._fill(now)

    def keep_to(self, limits: Limits, now: float) -> None:
        """Follow limits that were changed."""
        self.limits = limits
        self._fill(now)

    def excess(self, now: float) -> Excess | None:
        """Which limit another request would exceed."""
        if self.limits.in_progress and self.in_progress >= self.limits.in_progress:
            return Excess(IN_PROGRESS, self.limits.in_progress, SECOND_CHANCE_S)
        found = None
        for name, bucket in self._buckets.items():
            wait_s = bucket.wait_s(now)
            if wait_s and (found is None or wait_s > found.wait_s):
                found = Excess(name, bucket.rate, wait_s)
        return found

    def take_request(self, size: int = 0) -> None:
        """A request was admitted, with so many bytes."""
        self._take("requests_per_s", 1)
        if size:
            self.take_bytes(size)

    def take_bytes(self, count: int) -> None:
        """So many bytes have arrived."""
        self._take("bytes_per_s", count)

    def take_rows(self, count: int) -> None:
        """A request has so many rows."""
        self._take("rows_per_s", count)

    def begin(self) -> None:
        """A request is in progress."""
        self.in_progress += 1

    def end(self) -> None:
        """It is answered."""
        self.in_progress -= 1

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count a request as in progress, and have its rows count for this caller."""
        self.begin()
        try:
            with self.paying():
                yield
        finally:
            self.end()

    @contextmanager
    def paying(self) -> Iterator[None]:
        """Have rows that are read within count for this caller."""
        token = _paying.set(self)
        try:
            yield
        finally:
            _paying.reset(token)

    def _fill(self, now: float) -> None:
        for name in RATES:
            rate: float = getattr(self.limits, name)
            if not rate:
                self._buckets.pop(name, None)
            elif (bucket := self._buckets.get(name)) is None:
                self._buckets[name] = Bucket(rate, self._burst_s, now)
            else:
                bucket.change(rate, self._burst_s, now)

    def _take(self, name: str, amount: float) -> None:
        if (bucket := self._buckets.get(name)) is not None:
            bucket.take(amount)


_paying: ContextVar[Caller | None] = ContextVar("everloop_caller", default=None)


def take_rows(count: int) -> None:
    """Count the rows of the request that the current task answers, where its caller has limits."""
    if (caller := _paying.get()) is not None:
        caller.take_rows(count)
