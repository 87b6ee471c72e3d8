"""All runs, remembered from the topics."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice

from everloop_schemas.training import RunFinished, RunRequested

RUNS_PER_LOOP = 10_000


class MemoryRunLog:
    """Runs by loop and id, oldest first; of a loop's finished runs at most `RUNS_PER_LOOP` are kept."""

    def __init__(self) -> None:
        self._requested: dict[str, dict[str, RunRequested]] = defaultdict(dict)
        self._finished: dict[str, RunFinished] = {}

    def requested(self, event: RunRequested) -> None:
        """Take in a run; the first word on a run stands."""
        runs = self._requested[event.loop]
        runs.setdefault(event.data.run, event)
        if len(runs) > RUNS_PER_LOOP:
            oldest = next(islice(runs, 1))
            del runs[oldest]
            self._finished.pop(oldest, None)

    def finished(self, event: RunFinished) -> None:
        """Take in the end of a run; the first word stands."""
        self._finished.setdefault(event.data.run, event)

    def forget(self, loop: str) -> None:
        """The loop's life has ended."""
        for run in self._requested.pop(loop, {}):
            self._finished.pop(run, None)

    def of(self, loop: str) -> list[tuple[RunRequested, RunFinished | None]]:
        """A loop's runs, oldest first."""
        runs = sorted(self._requested.get(loop, {}).values(), key=lambda r: r.time)
        return [(r, self._finished.get(r.data.run)) for r in runs]

    def all(self) -> list[RunRequested]:
        """Every run of every loop."""
        return [r for runs in self._requested.values() for r in runs.values()]

    def ended(self) -> list[str]:
        """The ids of the runs that have ended."""
        return list(self._finished)
