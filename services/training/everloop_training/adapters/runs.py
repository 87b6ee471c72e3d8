"""The runs of all loops, in memory, as their topics say."""

from __future__ import annotations

from collections import defaultdict

from everloop_schemas.training import RunFinished, RunRequested

RUNS_PER_LOOP = 1_000
TRAININGS_PER_LOOP = 200
"""Trainings on a data set that are remembered beside the runs that started a line."""


class MemoryRunLog:
    """Runs by loop and id, oldest first; of each loop the last ones, as these limits say."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, RunRequested]] = defaultdict(dict)
        self._trainings: dict[str, dict[str, RunRequested]] = defaultdict(dict)
        self._finished: dict[str, dict[str, RunFinished]] = defaultdict(dict)

    def add_requested(self, event: RunRequested) -> None:
        """Add a run; the first request of a run counts."""
        is_line = event.data.data_set is None
        runs = (self._lines if is_line else self._trainings)[event.loop]
        runs.setdefault(event.data.run, event)
        if len(runs) > (RUNS_PER_LOOP if is_line else TRAININGS_PER_LOOP):
            oldest = next(iter(runs))
            del runs[oldest]
            self._finished[event.loop].pop(oldest, None)

    def add_finished(self, event: RunFinished) -> None:
        """Add the end of a run; the first one counts."""
        ends = self._finished[event.loop]
        ends.setdefault(event.data.run, event)
        if len(ends) > RUNS_PER_LOOP + TRAININGS_PER_LOOP:
            del ends[next(iter(ends))]

    def forget(self, loop: str) -> None:
        """Forget the runs of a loop whose lifetime has ended."""
        self._lines.pop(loop, None)
        self._trainings.pop(loop, None)
        self._finished.pop(loop, None)

    def of(self, loop: str) -> list[tuple[RunRequested, RunFinished | None]]:
        """A loop's runs, oldest first."""
        runs = [*self._lines.get(loop, {}).values(), *self._trainings.get(loop, {}).values()]
        ends = self._finished.get(loop, {})
        return [(r, ends.get(r.data.run)) for r in sorted(runs, key=lambda r: r.time)]

    def end_of(self, loop: str, run: str) -> RunFinished | None:
        """How a run ended, if it has."""
        return self._finished.get(loop, {}).get(run)

    def open_trainings(self, loop: str | None = None) -> list[RunRequested]:
        """The runs that ask for a model trained on a data set and have not ended, oldest first; of one loop or all."""
        loops = list(self._trainings) if loop is None else [loop]
        runs = [run for name in loops for run in self._trainings.get(name, {}).values()]
        return sorted((r for r in runs if self.end_of(r.loop, r.data.run) is None), key=lambda r: r.time)

    def all(self) -> list[RunRequested]:
        """Every run of every loop."""
        return [r for by_loop in (self._lines, self._trainings) for runs in by_loop.values() for r in runs.values()]

    def ends(self) -> list[RunFinished]:
        """How the runs ended that have."""
        return [end for ends in self._finished.values() for end in ends.values()]
