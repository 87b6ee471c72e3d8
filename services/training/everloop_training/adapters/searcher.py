"""Does the searches for better parameters, one at a time: reads the data, searches in another process, publishes."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from everloop_learning.loops import KnownLoops
from everloop_models.search.protocol import ROWS
from everloop_schemas.envelope import Event, derived_id
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search import (
    SearchFinished,
    SearchFinishedData,
    SearchRequested,
    TrialFinished,
    TrialFinishedData,
)
from everloop_schemas.training import DataSet, RunRequested
from everloop_shared.clock import Clock, system_clock
from everloop_shared.errors import ServiceError
from everloop_training.adapters.data_sets import DataSets
from everloop_training.adapters.long_work import LOOK_EVERY_S, done_while_wanted, retried
from everloop_training.adapters.row_files import RowWriterWithEntities, write_rows
from everloop_training.adapters.search_process import RunSearch, SearchFailed
from everloop_training.domain.known_search import superseded
from everloop_training.domain.trained_model import REASON_CHARACTERS
from everloop_training.metrics import SEARCHES, TRIALS
from everloop_training.ports import Learners, SearchLog

log = logging.getLogger(__name__)
WAITS = "a search"
MODELS_CHANGED = "the loop's file does not have the searched model any more, or has it with these parameters"
Publish = Callable[[list[Event]], Awaitable[None]]


class _Result(NamedTuple):
    """How a search ended, on which data, and the run that its best model challenges with."""

    finished: SearchFinishedData
    data_set: DataSet | None = None
    run: RunRequested | None = None


class Searcher:
    """Takes the open searches of the loops that are learned here, oldest first, in a folder of its own.

    Of the searches of a model the newest is taken, and those before it have failed; one that is under way goes on
    while newer ones come, so that it ends however often searches are due. One whose loop is deleted, or is not learned
    here any more, is given up. One that has not ended when the service does is done again by the next one, with the
    same data and seed: trials that are known already are not published again.
    """

    def __init__(
        self,
        folder: Path,
        loops: KnownLoops,
        searches: SearchLog,
        is_learned_here: Callable[[str], bool],
        data_sets: DataSets,
        learners: Learners,
        publish: Publish,
        run_search: RunSearch,
        max_data_bytes: int,
        clock: Clock = system_clock,
    ) -> None:
        self._folder, self._loops, self._searches, self._is_learned_here = folder, loops, searches, is_learned_here
        self._data_sets, self._learners, self._publish, self._run_search = data_sets, learners, publish, run_search
        self._max_data_bytes, self._clock = max_data_bytes, clock

    async def run(self) -> None:
        """Do the searches that are to be done, for ever; cancelling it ends one that is under way."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)  # of a service that was killed
        while True:
            search = await self._next()
            if search is None:
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                await self._search_while_wanted(search)

    async def _next(self) -> SearchRequested | None:
        """The search to do next; those that a newer one replaces end."""
        wanted = [search for search in self._searches.open() if self._is_wanted(search)]
        replaced = superseded(wanted)
        for search in wanted:
            if by := replaced.get(search.data.search):
                reason = f"superseded by search {by.data.search}, which has later outcomes"
                await self._end(search, _Result(_failed(search, reason)))
        return next((search for search in wanted if search.data.search not in replaced), None)

    def _is_wanted(self, search: SearchRequested) -> bool:
        """Whether a search is open, and of a loop that is learned here."""
        if self._loops.is_past(search) or self._loops.get(search.loop) is None:
            return False
        known = self._searches.find(search.loop, search.data.search)
        return self._is_learned_here(search.loop) and known is not None and known.finished is None

    async def _search_while_wanted(self, search: SearchRequested) -> None:
        where = {"loop": search.loop, "search": search.data.search, "model": search.data.index}
        log.info("searching for better parameters", extra=where)
        result = await done_while_wanted(self._search_and_end(search), lambda: self._is_wanted(search))
        SEARCHES.labels(search.loop, result).inc()
        log.info("a search has ended", extra={**where, "result": result})

    async def _search_and_end(self, search: SearchRequested) -> str:
        """Search, let the best model challenge if it is better, and publish the end; returns the result."""
        folder = self._folder / search.data.search
        try:
            folder.mkdir(parents=True)
            result = await self._search(search, folder)
        except (SearchFailed, ServiceError, OSError) as e:
            reason = (e.detail if isinstance(e, ServiceError) else str(e))[:REASON_CHARACTERS]
            log.warning("a search has failed", extra={"loop": search.loop, "reason": reason})
            result = _Result(_failed(search, reason))
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await self._end(search, result)
        return result.finished.state

    async def _search(self, search: SearchRequested, folder: Path) -> _Result:
        data_set = await write_rows(
            self._data_sets,
            search.data.data_set,
            folder / ROWS,
            lambda file: RowWriterWithEntities(file, self._max_data_bytes),
            WAITS,
        )
        spec = self._loops.require(search.loop).data.spec

        async def on_trial(trial: TrialFinishedData) -> None:
            await self._publish_trial(search, trial)

        finished = await retried(lambda: self._run_search(folder, search.data, spec, on_trial), WAITS)
        if finished.state != "improved" or finished.model is None:
            return _Result(finished, data_set)
        return await self._challenge(search, finished, finished.model, data_set)

    async def _challenge(
        self, search: SearchRequested, finished: SearchFinishedData, model: ModelSpec, data_set: DataSet
    ) -> _Result:
        score, before = finished.score or 0.0, finished.base_score or 0.0
        reason = f"trial {finished.best} of a search: {finished.metric} {score:.4g}, {before:.4g} before"
        reply = await retried(lambda: self._learners.request_tuned_run(search, model, reason), WAITS)
        if reply.run is None:
            unchanged = finished.model_copy(update={"state": "unchanged", "reason": MODELS_CHANGED})
            return _Result(unchanged, data_set)
        return _Result(finished, data_set, reply.run.copy_with(actor=search.actor))

    async def _publish_trial(self, search: SearchRequested, trial: TrialFinishedData) -> None:
        known = self._searches.find(search.loop, search.data.search)
        if known is not None and any(each.trial == trial.trial for each in known.trials):
            return
        name = f"{search.data.search}/{trial.trial}"
        event = TrialFinished(
            id=derived_id(search.loop, TrialFinished.type_name(), name),
            time=self._clock(),
            subject=name,
            loop=search.loop,
            revision=search.revision,
            causationid=search.id,
            correlationid=search.data.search,
            data=trial.model_copy(update={"search": search.data.search}),
        )
        await self._publish([event])
        self._searches.add_trial(event)
        TRIALS.labels(search.loop, trial.state).inc()

    async def _end(self, search: SearchRequested, result: _Result) -> None:
        run = result.run.data.run if result.run else None
        known = {"search": search.data.search, "run": run, "data_set": result.data_set or search.data.data_set}
        finished = SearchFinished(
            id=derived_id(search.loop, SearchFinished.type_name(), search.data.search),
            time=self._clock(),
            subject=search.data.search,
            loop=search.loop,
            revision=search.revision,
            causationid=search.id,
            correlationid=search.data.search,
            data=result.finished.model_copy(update=known),
        )
        await self._publish([*([result.run] if result.run else []), finished])
        self._searches.add_finished(finished)


def _failed(search: SearchRequested, reason: str) -> SearchFinishedData:
    data = search.data
    return SearchFinishedData(search=data.search, state="failed", metric=data.metric, trials=0, reason=reason)
