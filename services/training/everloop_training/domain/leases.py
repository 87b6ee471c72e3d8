"""Leases: which trainer works on which run, until when, and how often a run was taken."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

MAX_LEASES = 3
"""Trainers that may take a run one after the other; when the last one's lease has ended, the run has failed."""


@dataclass(frozen=True)
class Lease:
    """A trainer works on a run until `until`, and may renew that up to `latest`; `number` counts the run's leases."""

    id: str
    run: str
    trainer: str
    number: int
    given: datetime
    until: datetime
    latest: datetime


class Leases:
    """The latest lease of each open run, in memory: after a restart open runs are offered again."""

    def __init__(self, lease_s: float, longest_s: float) -> None:
        """`lease_s` seconds until a lease ends unless it is renewed, `longest_s` until it ends anyway."""
        self._lease, self._longest = timedelta(seconds=lease_s), timedelta(seconds=max(lease_s, longest_s))
        self._latest: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._latest)

    def find(self, run: str) -> Lease | None:
        """The latest lease of a run, which may have ended."""
        return self._latest.get(run)

    def is_free(self, run: str, now: datetime) -> bool:
        """Whether a trainer may take the run."""
        lease = self._latest.get(run)
        return lease is None or (lease.until <= now and lease.number < MAX_LEASES)

    def give(self, run: str, trainer: str, id: str, now: datetime) -> Lease:
        """Give a free run to a trainer."""
        before = self._latest.get(run)
        number = before.number + 1 if before else 1
        lease = Lease(id, run, trainer, number, now, now + self._lease, now + self._longest)
        self._latest[run] = lease
        return lease

    def renew(self, run: str, id: str, now: datetime) -> Lease | None:
        """The lease with a later end; None where it has ended, or is not the run's latest."""
        return self._end_at(run, id, now, now + self._lease)

    def release(self, run: str, id: str, now: datetime) -> Lease | None:
        """End a lease now, so that the run is free; None where it has ended, or is not the run's latest."""
        return self._end_at(run, id, now, now)

    def given_up(self, now: datetime) -> list[Lease]:
        """The last leases of runs that no further trainer may take, once they have ended."""
        return [lease for lease in self._latest.values() if lease.number >= MAX_LEASES and lease.until <= now]

    def retain(self, runs: Collection[str]) -> None:
        """Forget the leases of all other runs, which have ended."""
        self._latest = {run: lease for run, lease in self._latest.items() if run in runs}

    def _end_at(self, run: str, id: str, now: datetime, until: datetime) -> Lease | None:
        lease = self._latest.get(run)
        if lease is None or lease.id != id or lease.until <= now:
            return None
        self._latest[run] = lease = replace(lease, until=min(until, lease.latest))
        return lease
