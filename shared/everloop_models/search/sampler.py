"""Proposes parameters: Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), seeded, in rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState, create_trial

from everloop_metrics import ERRORS
from everloop_models.search.task import Evaluation
from everloop_schemas.envelope import Scalar
from everloop_schemas.search import Parameters
from everloop_schemas.search_spec import ParameterRange

optuna.logging.set_verbosity(optuna.logging.WARNING)
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class Sampler:
    """Parameters to try within a space. What it proposes follows from the seed and what it was told, in that order."""

    def __init__(self, space: Mapping[str, ParameterRange], metric: str, seed: int) -> None:
        self._space = dict(sorted(space.items()))
        self._distributions = {name: distribution(one) for name, one in self._space.items()}
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
        direction: Literal["minimize", "maximize"] = "minimize" if metric in ERRORS else "maximize"
        self._study = optuna.create_study(sampler=sampler, direction=direction)
        self._asked: list[Trial] = []

    @property
    def size(self) -> int | None:
        """How many different parameters there are to try, None where a number is continuous."""
        sizes = [_size(one) for one in self._distributions.values()]
        return None if None in sizes else prod(size for size in sizes if size is not None)

    @property
    def told(self) -> list[float | None]:
        """The scores that it knows."""
        return [trial.value for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]

    def ask(self, number: int) -> list[Parameters]:
        """The next parameters to try; their evaluations must be told before more are asked for."""
        self._asked = [self._study.ask(self._distributions) for _ in range(number)]
        return [
            {name: value_of(self._space[name], trial.params[name]) for name in self._space} for trial in self._asked
        ]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """What came of the parameters that were asked for last, in their order."""
        for trial, found in zip(self._asked, evaluations, strict=True):
            total = 0.0
            for step, score in enumerate(found.folds):
                total += score
                trial.report(total / (step + 1), step)
            self._study.tell(trial, found.score if found.state == "complete" else None, STATES[found.state])

    def tell_base(self, parameters: Parameters, found: Evaluation) -> None:
        """What came of the model as it is, where it lies within the space."""
        chosen = {name: _place(one, parameters.get(name)) for name, one in self._space.items()}
        inside = all(value is not None and self._distributions[name]._contains(value) for name, value in chosen.items())
        if inside and found.state == "complete":
            self._study.add_trial(create_trial(value=found.score, params=chosen, distributions=self._distributions))


def distribution(of: ParameterRange) -> BaseDistribution:
    """A range as Optuna has it; of a choice it takes the place, because True and 1 would be one value to it."""
    if of.choice is not None:
        return CategoricalDistribution(tuple(range(len(of.choice))))
    low, high = of.bounds or (0, 0)
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=of.log is not None)
    return FloatDistribution(float(low), float(high), log=of.log is not None)


def value_of(of: ParameterRange, drawn: int | float) -> Scalar:
    """The value of a parameter that Optuna has drawn."""
    return drawn if of.choice is None else of.choice[int(drawn)]


def _place(of: ParameterRange, value: Scalar | None) -> int | float | None:
    """The opposite of `value_of`; None for what cannot be drawn."""
    if of.choice is not None:
        return next((n for n, one in enumerate(of.choice) if type(one) is type(value) and one == value), None)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _size(of: BaseDistribution) -> int | None:
    if isinstance(of, CategoricalDistribution):
        return len(of.choices)
    return of.high - of.low + 1 if isinstance(of, IntDistribution) else None
