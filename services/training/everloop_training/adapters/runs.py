"""The runs of all loops, in memory, as their topics say."""

from __future__ import annotations

from collections import defaultdict

from everloop_schemas.training import RunFinished, RunRequested

RUNS_PER_LOOP = 1_000


class MemoryRunLog:
    """Runs by loop and id, oldest first; of each loop the last `RUNS_PER_LOOP` requests and ends."""

    def __init__(self) -> None:
        self._requested: dict[str, dict[str, RunRequested]] = defaultdict(dict)
        self._finished: dict[str, dict[str, RunFinished]] = defaultdict(dict)

    def add_requested(self, event: RunRequested) -> None:
        """Add a run; the first request of a run counts."""
        runs = self._requested[event.loop]
        runs.setdefault(event.data.run, event)
        if len(runs) > RUNS_PER_LOOP:
            oldest = next(iter(runs))
            del runs[oldest]
            self._finished[event.loop].pop(oldest, None)

    def add_finished(self, event: RunFinished) -> None:
        """Add the end of a run; the first one counts."""
        ends = self._finished[event.loop]
        ends.setdefault(event.data.run, event)
        if len(ends) > RUNS_PER_LOOP:
            del ends[next(iter(ends))]

    def forget(self, loop: str) -> None:
        """Forget the runs of a loop whose lifetime has ended."""
        self._requested.pop(loop, None)
        self._finished.pop(loop, None)

    def of(self, loop: str) -> list[tuple[RunRequested, RunFinished | None]]:
        """A loop's runs, oldest first."""
        runs = sorted(self._requested.get(loop, {}).values(), key=lambda r: r.time)
        ends = self._finished.get(loop, {})
        return [(r, ends.get(r.data.run)) for r in runs]

    def open_trainings(self, loop: str | None = None) -> list[RunRequested]:
        """The runs that ask for a model trained on a data set and have not ended, oldest first; of one loop or all."""
        loops = list(self._requested) if loop is None else [loop]
        runs = [run for name in loops for run, end in self.of(name) if run.data.data_set is not None and end is None]
        return sorted(runs, key=lambda r: r.time)

    def all(self) -> list[RunRequested]:
        """Every run of every loop."""
        return [r for runs in self._requested.values() for r in runs.values()]

    def ended(self) -> list[str]:
        """The ids of the runs that have ended."""
        return [run for ends in self._finished.values() for run in ends]
