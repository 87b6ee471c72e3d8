"""Shapley values of a prediction: what it changes when features take their values, beginning with usual ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import comb
from random import Random

from everloop_models.explain.attribution import Attribution, ReferenceModel, Scale, score_of
from everloop_models.model import ManyRowsModel, Model, ModelPrediction
from everloop_schemas.envelope import Fields

MAX_CALLS = 256
"""Predictions that one explanation takes, at most."""
MAX_GROUPS = 64
"""Features that are told apart; where more differ from what is usual, some share what they contributed."""
SECONDS = 0.02
"""After this time no further order is begun."""
PATIENCE = 5
"""An explanation whose first order would take this many times as long as allowed is given up."""


def attribute_by_permutation(
    model: Model,
    features: Fields,
    prediction: ModelPrediction,
    seed: str,
    *,
    seconds: float = SECONDS,
    calls: int = MAX_CALLS,
    timer: Callable[[], float] = time.perf_counter,
) -> Attribution | None:
    """How the score changes while features take their values one by one, as a mean over orders.

    Over all orders where the predictions for all sets of features are within `calls`, so that the values are exact;
    else over some orders and their reverses.

    The base is the score of the model's usual observation, with which each order begins; each ends with the score of
    this one, so that the sum is exact after any number of orders (Strumbelj and Kononenko 2014, with one reference
    as in Sundararajan and Najmi 2020; reversed orders as in Mitchell et al. 2022). Features that have their usual value
    contribute nothing. None where one order takes too long. Raises ModelBroken as the model does.
    """
    usual = model.reference(features) if isinstance(model, ReferenceModel) else dict.fromkeys(features)
    start, score, random = timer(), _Scores(model, prediction), Random(seed)
    first: Fields = {**features, **usual}
    [base], (_, whole) = score.of([first]), score_of(prediction)
    groups = _groups([name for name in features if features[name] != usual.get(name)], random)
    affordable = seconds * PATIENCE / max(_seconds_of_a_call(score, first, timer() - start, seconds, timer), 1e-9)
    if 2 ** len(groups) <= min(calls, affordable):
        shares = _exact_shares([name for [name] in groups], score, features, usual, base, whole)
        return Attribution(
            "permutation", whole, base if groups else whole, dict.fromkeys(features, 0.0) | shares, score.scale
        )
    if len(groups) > affordable:
        return None
    found, orders = dict.fromkeys(features, 0.0), 0
    for order in _orders(groups, random, calls):
        _add_steps(found, order, score, features, usual, base, whole)
        orders += 1
        if timer() - start > seconds:
            break
    contributions = {name: total / max(orders, 1) for name, total in found.items()}
    return Attribution("permutation", whole, base if groups else whole, contributions, score.scale)


def _seconds_of_a_call(score: _Scores, row: Fields, took: float, seconds: float, timer: Callable[[], float]) -> float:
    """How long a prediction takes: of two measurements the shorter one, where the first might have been disturbed."""
    if took * MAX_CALLS <= seconds * PATIENCE:
        return took
    start = timer()
    score.of([row])
    return min(took, timer() - start)


class _Scores:
    """The score of rows: the probability of the predicted class, 1 or 0 where a model has none, or the value."""

    def __init__(self, model: Model, prediction: ModelPrediction) -> None:
        self._model, self._value = model, prediction.value
        self._of, _ = score_of(prediction)
        self.scale: Scale = "value" if self._of is None else "probability"

    def of(self, rows: Sequence[Fields]) -> list[float]:
        if isinstance(self._model, ManyRowsModel):
            return [self._score(each) for each in self._model.predict_many(rows)]
        return [self._score(self._model.predict(row)) for row in rows]

    def _score(self, said: ModelPrediction) -> float:
        if self._of is None:
            return float(said.value)
        if said.probabilities is None:
            return float(said.value == self._value)
        return said.probabilities.get(self._of, 0.0)


def _groups(names: list[str], random: Random) -> list[list[str]]:
    """The features that are told apart, in an order by chance where there are too many of them."""
    if len(names) <= MAX_GROUPS:
        return [[name] for name in names]
    random.shuffle(names)
    return [names[n::MAX_GROUPS] for n in range(MAX_GROUPS)]


def _exact_shares(
    names: Sequence[str], score: _Scores, features: Fields, usual: Fields, base: float, whole: float
) -> dict[str, float]:
    """The Shapley value of each feature, from the scores of all sets of them (Shapley 1953)."""
    n = len(names)
    rows = [
        {**features, **usual, **{name: features[name] for i, name in enumerate(names) if one >> i & 1}}
        for one in range(1, 2**n - 1)
    ]
    worth = [base, *(score.of(rows) if rows else ()), whole][: 2**n]
    weights = [1 / (n * comb(n - 1, size)) for size in range(n)]
    return {
        name: sum(
            weights[one.bit_count()] * (worth[one | 1 << i] - worth[one]) for one in range(2**n) if not one >> i & 1
        )
        for i, name in enumerate(names)
    }


def _orders(groups: list[list[str]], random: Random, calls: int) -> list[list[list[str]]]:
    """As many orders as calls allow, each followed by its reverse; one that nobody can tell apart from it, alone."""
    if not groups:
        return []
    if len(groups) == 1:
        return [groups]
    pairs, orders = max(1, (calls - 1) // (2 * (len(groups) - 1))), list[list[list[str]]]()
    for _ in range(1 if len(groups) == 2 else pairs):
        order = random.sample(groups, len(groups))
        orders += [order, order[::-1]]
    return orders


def _add_steps(
    found: dict[str, float],
    order: Sequence[Sequence[str]],
    score: _Scores,
    features: Fields,
    usual: Fields,
    base: float,
    whole: float,
) -> None:
    """Add what each group changes when it takes its values after those before it."""
    rows, row = list[Fields](), {**features, **usual}
    for group in order[:-1]:
        row = {**row, **{name: features[name] for name in group}}
        rows.append(row)
    before = base
    for group, after in zip(order, [*(score.of(rows) if rows else ()), whole], strict=True):
        for name in group:
            found[name] += (after - before) / len(group)
        before = after
