"""A search as its events say, and which of several is the one to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from everloop_schemas.search import SearchFinished, SearchRequested, TrialFinishedData
from everloop_schemas.search_spec import SearchSpec


class KnownSearch(NamedTuple):
    """A search, its end if it has ended, and its trials in order, as far as they are remembered."""

    requested: SearchRequested
    finished: SearchFinished | None
    trials: tuple[TrialFinishedData, ...]


def superseded(searches: Iterable[SearchRequested]) -> dict[str, SearchRequested]:
    """By id, each of these searches, oldest first, that a later one of the same model replaces, with that one."""
    searches = list(searches)
    newest = {(search.loop, search.data.index): search for search in searches}
    later = ((search, newest[search.loop, search.data.index]) for search in searches)
    return {search.data.search: by for search, by in later if by is not search}


def searched_models(search: SearchSpec, models: int) -> list[int]:
    """The numbers of the models that are searched; features are tried with the first."""
    return [i for i in range(models) if search.of_model(i) or (i == 0 and search.features)]
