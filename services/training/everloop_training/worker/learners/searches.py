"""The searches for better parameters of a loop's models: when they are due, and what each is to search."""

from __future__ import annotations

from collections.abc import Iterable

from everloop_learning.outcome import Outcome
from everloop_learning.version import line_of
from everloop_schemas.envelope import derived_id
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search import SearchRequested, SearchRequestedData
from everloop_schemas.search_spec import SearchSpec
from everloop_schemas.training import DataSet
from everloop_training.domain.known_search import searched_models
from everloop_training.domain.search_reply import MIN_OUTCOMES
from everloop_training.domain.tuned_model import is_tuned
from everloop_training.worker.learners.event_factory import EventFactory
from everloop_training.worker.learners.line_registry import LineRegistry
from everloop_training.worker.learners.progress import LoopProgress


class Searches:
    """Requests a search of each model that the spec's `search` names, whenever the loop has `every` more outcomes.

    When one is due follows from the number of outcomes alone, so that the log learned again makes the same ones.
    `newest` is, by model, where the last search on the log was requested: none at or before that offset is requested
    again. `due` are those that wait until the log is learned: of each model the last one.
    """

    def __init__(self, progress: LoopProgress, lines: LineRegistry, events: EventFactory) -> None:
        self.newest: dict[int, int] = {}
        self.due: dict[int, SearchRequested] = {}
        self._progress, self._lines, self._events = progress, lines, events

    def adopt(self, searches: Iterable[SearchRequested]) -> None:
        """Take over the searches of this lifetime of the loop from the log."""
        for search in searches:
            self._note(search.data.index, search.data.data_set.end)

    def on_learned(self, outcome: Outcome) -> None:
        """An outcome was learned: the searches that are due by it wait to be requested."""
        search, progress = self._progress.spec.search, self._progress
        if search is None or progress.outcomes % search.every:
            return
        for index in searched_models(search, len(progress.spec.models)):
            if outcome.offset > self.newest.get(index, -1):
                reason = f"{progress.outcomes:,} outcomes, a search every {search.every:,}"
                key = f"search/{index}/{outcome.offset}"
                self.due[index] = self._build(search, index, key, reason, outcome.id)

    def request_due(self) -> None:
        """Request what is due, once the log is learned."""
        for index, search in sorted(self.due.items()):
            if search.data.data_set.end > self.newest.get(index, -1):
                self._note(index, search.data.data_set.end)
                self._events.pending.append(search)
        self.due.clear()

    def request(self, index: int, key: str, reason: str) -> SearchRequested | None:
        """The search that a person requests, of the outcomes so far; None where there are too few."""
        search, progress = self._progress.spec.search, self._progress
        if search is None or progress.outcomes < MIN_OUTCOMES:
            return None
        self._note(index, progress.position)
        return self._build(search, index, f"manual/{key}", reason, None)

    def _note(self, index: int, offset: int) -> None:
        self.newest[index] = max(offset, self.newest.get(index, -1))

    def _build(self, search: SearchSpec, index: int, key: str, reason: str, caused_by: str | None) -> SearchRequested:
        state, progress = self._progress.state, self._progress
        id = search_id(state.loop, key, state.data.life)
        start = progress.offsets.start_of_last(search.window)
        data = SearchRequestedData(
            search=id,
            key=key,
            reason=reason,
            index=index,
            model=self._model_as_it_is(index),
            data_set=DataSet(loop=state.loop, start=start, end=progress.position, revision=state.revision),
            metric=search.metric or progress.spec.metric,
            trials=search.trials,
            budget_s=search.budget_s,
            seed=seed_of(id),
            space=search.of_model(index),
            features=search.features if index == 0 else 0,
        )
        return SearchRequested(
            id=derived_id(state.loop, SearchRequested.type_name(), id),
            time=self._events.dependencies.now(),
            subject=id,
            loop=state.loop,
            revision=state.revision,
            causationid=caused_by,
            correlationid=id,
            data=data,
        )

    def _model_as_it_is(self, index: int) -> ModelSpec:
        """The spec's model, or the champion's where that is this one with parameters that a search found."""
        model = self._progress.spec.models[index]
        champion = self._lines.runs.get(line_of(self._progress.state.data.champion.version))
        if champion is None or champion.data.artifact is not None or champion.data.model in self._progress.spec.models:
            return model
        return champion.data.model if is_tuned(champion.data.model, model) else model


def search_id(loop: str, key: str, life: int) -> str:
    """The id of the search of a key in one lifetime of a loop."""
    return derived_id(loop, "search", life, key)


def seed_of(search: str) -> int:
    """The seed of a search: the same for the same one, another for the next."""
    return int(derived_id(search, "seed").replace("-", "")[:7], 16)
