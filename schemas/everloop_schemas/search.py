"""What training publishes about searches for better parameters: what is searched, every trial, and what was found."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from everloop_schemas.envelope import DAY_MS, FOREVER, ControlData, ControlEvent, Scalar, Topic
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search_spec import ParameterRange
from everloop_schemas.training import DataSet

Parameters = dict[str, Scalar | None]


class SearchRequestedData(ControlData):
    """A search for better parameters of `model`, the loop's model number `index`, on a data set.

    `key` makes the same cause the same search. Without `space`, only features are proposed and tried.
    """

    search: str
    key: str
    reason: str
    index: int
    model: ModelSpec
    data_set: DataSet
    metric: str
    trials: int
    budget_s: float
    seed: int
    space: dict[str, ParameterRange] = Field(default_factory=dict)
    features: int = 0


class SearchRequested(ControlEvent):
    """A search begins; `correlationid` is its id, `causationid` the outcome behind it.

    `actor` is who gave the command, absent where the number of outcomes requested it; `team` is theirs, whose quota
    counts the search. `actor_kind` and `actor_source` say how the actor is known, as in decisions.
    """

    topic: ClassVar[Topic] = Topic(
        "training.search_requested.v1", owner="training", keyed_by="loop", retention_ms=FOREVER
    )
    type: Literal["training.search_requested.v1"] = "training.search_requested.v1"
    source: str = "everloop/training"
    actor: str | None = None
    team: str | None = None
    actor_kind: str | None = None
    actor_source: str | None = None
    data: SearchRequestedData


class TrialFinishedData(ControlData):
    """One trial of a search: the model with these parameters, as `metric` judges it.

    `folds` are the scores of the parts of the data set, each predicted before it was learned, `score` is their mean.
    `train_folds` are the scores on what was learned before each fold, `train_score` is their mean, and `gap` by how
    much it is better: how far the model overfits; all three are absent for a model that learns each outcome once. A
    `pruned` trial was ended after some folds, because others were better by then. `feature` names the proposed feature
    that was added, in a trial of features.
    """

    search: str
    trial: int
    state: Literal["complete", "pruned", "failed"]
    parameters: Parameters
    feature: str | None = None
    score: float | None = None
    folds: tuple[float, ...] = ()
    train_folds: tuple[float, ...] = ()
    train_score: float | None = None
    gap: float | None = None
    seconds: float
    reason: str | None = None


class TrialFinished(ControlEvent):
    """A trial of a search has ended; `subject` is the search and the number of the trial."""

    topic: ClassVar[Topic] = Topic(
        "training.trial_finished.v1", owner="training", keyed_by="loop", retention_ms=90 * DAY_MS
    )
    type: Literal["training.trial_finished.v1"] = "training.trial_finished.v1"
    source: str = "everloop/training"
    data: TrialFinishedData


class ProposedFeature(ControlData):
    """A feature that was tried, as the spec would write it, its score, and by how much it is better than without."""

    feature: dict[str, Scalar]
    score: float
    gain: float


class SearchFinishedData(ControlData):
    """How a search ended: `improved` (its best model challenges, by `run`), `unchanged`, or `failed`.

    `base_score` is the score of the model as it is (trial 0), `score` that of trial `best`.
    """

    search: str
    state: Literal["improved", "unchanged", "failed"]
    metric: str
    trials: int
    best: int | None = None
    model: ModelSpec | None = None
    score: float | None = None
    base_score: float | None = None
    run: str | None = None
    features: tuple[ProposedFeature, ...] = ()
    data_set: DataSet | None = None
    seconds: float = 0.0
    reason: str | None = None


class SearchFinished(ControlEvent):
    """A search has ended."""

    topic: ClassVar[Topic] = Topic(
        "training.search_finished.v1", owner="training", keyed_by="loop", retention_ms=FOREVER
    )
    type: Literal["training.search_finished.v1"] = "training.search_finished.v1"
    source: str = "everloop/training"
    data: SearchFinishedData
