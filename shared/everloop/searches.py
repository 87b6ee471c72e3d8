"""Searches for better parameters, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx

from everloop.wire import http_error, loop_path, query, to_json

if TYPE_CHECKING:
    from everloop_schemas.envelope import Scalar


@dataclass(frozen=True)
class Trial:
    """A trial of a search: the parameters that it changed, and how the model did with them.

    `folds` are the scores of parts of the data, each predicted before it was learned, `score` is their mean, and
    `gap` says by how much the score on what was learned, of `train_folds`, is better: how far the model overfits.
    `feature` is the further feature of a trial that tried one.

    >>> from everloop import Everloop
    >>> with Everloop() as everloop:
    ...     trial = everloop.searches("market", trials=True)[0].trials[1]
    >>> trial.number, trial.parameters, trial.score, trial.state
    (1, {'l2': 0.1}, 0.75, 'complete')
    """

    number: int
    state: str
    parameters: dict[str, Scalar | None]
    score: float | None
    folds: tuple[float, ...] = ()
    train_folds: tuple[float, ...] = ()
    train_score: float | None = None
    gap: float | None = None
    feature: str | None = None
    seconds: float = 0.0
    reason: str | None = None


@dataclass(frozen=True)
class Search:
    """A search for better parameters of `models.<model>` of a loop.

    `state` is running, improved (the `best` trial's model challenges, by `run`), unchanged or failed. `base_score` is
    that of the model as it is, trial 0. `proposed` are features that were better, as a loop file has them.

    >>> from everloop import Everloop
    >>> with Everloop() as everloop:
    ...     [search] = everloop.searches("market")
    >>> search.state, search.best, search.base_score, search.score
    ('improved', 1, 0.5, 0.75)
    """

    id: str
    loop: str
    model: int
    state: str
    reason: str
    metric: str
    data_set: str
    wanted: int
    done: int
    requested: str
    best: int | None = None
    best_model: dict[str, Scalar | None] | None = None
    score: float | None = None
    base_score: float | None = None
    run: str | None = None
    failure: str | None = None
    proposed: tuple[dict[str, Any], ...] = ()
    trials: tuple[Trial, ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.state == "running"


def searches_path(loop: str, trials: bool = False, search: str | None = None) -> str:
    """The path of a loop's searches."""
    return loop_path(loop, "searches") + query(trials="true" if trials else None, search=search)


def search_body(model: int, reason: str, key: str | None) -> bytes:
    """The body of a request for a search. One key for all its attempts is made here where none is given."""
    return to_json({"model": model, "reason": reason, "key": key or uuid4().hex})


def read_searches(response: httpx.Response) -> list[Search]:
    """The searches in an answer; raises EverloopHTTPError for a refusal."""
    if response.status_code != 200:
        raise http_error(response)
    body = response.json()
    return [_search(body["loop"], entry) for entry in body["searches"]]


def read_search(response: httpx.Response, loop: str) -> Search:
    """The search that was requested; raises EverloopHTTPError for a refusal."""
    if response.status_code != 202:
        raise http_error(response)
    return _search(loop, response.json())


def _search(loop: str, body: Mapping[str, Any]) -> Search:
    same = ("state", "reason", "metric", "requested", "best", "best_model", "score", "base_score", "run", "failure")
    return Search(
        id=body["search"],
        loop=loop,
        model=body["index"],
        data_set=body["data_set"]["name"],
        wanted=body["trials"],
        done=body["trials_done"],
        proposed=tuple(body["proposed"]),
        trials=tuple(_trial(entry) for entry in body["results"] or ()),
        **{name: body[name] for name in same},
    )


def _trial(body: Mapping[str, Any]) -> Trial:
    same = ("state", "parameters", "score", "train_score", "gap", "feature", "seconds", "reason")
    folds, train_folds = tuple(body["folds"]), tuple(body["train_folds"])
    return Trial(number=body["trial"], folds=folds, train_folds=train_folds, **{name: body[name] for name in same})
