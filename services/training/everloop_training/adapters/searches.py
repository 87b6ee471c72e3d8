"""The searches of all loops with their trials, in memory, as their topics say."""

from __future__ import annotations

from collections import defaultdict

from everloop_schemas.search import SearchFinished, SearchRequested, TrialFinished, TrialFinishedData
from everloop_training.domain.known_search import KnownSearch

SEARCHES_PER_LOOP = 50
TRIALS_KEPT = 50_000
"""Trials that are remembered, of all searches; those of the search that came first are forgotten first."""


class MemorySearchLog:
    """Searches by loop and id, oldest first; of each loop the last ones, and of these the last trials."""

    def __init__(self) -> None:
        self._requested: dict[str, dict[str, SearchRequested]] = defaultdict(dict)
        self._finished: dict[str, dict[str, SearchFinished]] = defaultdict(dict)
        self._trials: dict[tuple[str, str], dict[int, TrialFinishedData]] = {}
        self._trials_kept = 0

    def add_requested(self, event: SearchRequested) -> SearchRequested:
        """Add a search; the first request of a search counts, and is returned."""
        searches = self._requested[event.loop]
        first = searches.setdefault(event.data.search, event)
        if len(searches) > SEARCHES_PER_LOOP:
            oldest = next(iter(searches))
            del searches[oldest]
            self._finished[event.loop].pop(oldest, None)
            self._forget_trials((event.loop, oldest))
        return first

    def add_trial(self, event: TrialFinished) -> None:
        """Add a trial; the first end of a trial counts."""
        trials = self._trials.setdefault((event.loop, event.data.search), {})
        if event.data.trial not in trials:
            trials[event.data.trial] = event.data
            self._trials_kept += 1
        while self._trials_kept > TRIALS_KEPT and len(self._trials) > 1:
            self._forget_trials(next(iter(self._trials)))

    def add_finished(self, event: SearchFinished) -> None:
        """Add the end of a search; the first one counts."""
        ends = self._finished[event.loop]
        ends.setdefault(event.data.search, event)
        if len(ends) > SEARCHES_PER_LOOP:
            del ends[next(iter(ends))]

    def forget(self, loop: str) -> None:
        """Forget the searches of a loop whose lifetime has ended."""
        self._requested.pop(loop, None)
        self._finished.pop(loop, None)
        for search in [search for search in self._trials if search[0] == loop]:
            self._forget_trials(search)

    def of(self, loop: str) -> list[KnownSearch]:
        """A loop's searches, oldest first."""
        searches = sorted(self._requested.get(loop, {}).values(), key=lambda s: s.time)
        return [self._known(search) for search in searches]

    def find(self, loop: str, search: str) -> KnownSearch | None:
        """A search of a loop, if it is known."""
        found = self._requested.get(loop, {}).get(search)
        return self._known(found) if found else None

    def open(self) -> list[SearchRequested]:
        """The searches of all loops that have not ended, oldest first."""
        known = ((loop, search) for loop, searches in self._requested.items() for search in searches.values())
        searches = [search for loop, search in known if search.data.search not in self._finished.get(loop, {})]
        return sorted(searches, key=lambda s: s.time)

    def newest(self) -> list[SearchRequested]:
        """The search of each model of each loop that was requested on the latest outcomes."""
        newest: dict[tuple[str, int], SearchRequested] = {}
        for known in self._requested.values():
            for search in sorted(known.values(), key=lambda s: (s.revision, s.data.data_set.end)):
                newest[search.loop, search.data.index] = search
        return list(newest.values())

    def _known(self, search: SearchRequested) -> KnownSearch:
        loop, name = search.loop, search.data.search
        trials = self._trials.get((loop, name), {})
        in_order = tuple(trials[number] for number in sorted(trials))
        return KnownSearch(search, self._finished.get(loop, {}).get(name), in_order)

    def _forget_trials(self, search: tuple[str, str]) -> None:
        self._trials_kept -= len(self._trials.pop(search, {}))
