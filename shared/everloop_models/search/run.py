"""A search from its first trial to its end: rounds of parameters, then the features, as the budget allows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from everloop_models.search.candidates import candidates
from everloop_models.search.evaluation import is_better
from everloop_models.search.protocol import SearchTask
from everloop_models.search.pruning import thresholds
from everloop_models.search.sampler import Sampler
from everloop_models.search.task import Evaluation, Pool, TrialTask
from everloop_schemas.loop_parts import FeatureSpec
from everloop_schemas.search import Parameters, ProposedFeature, SearchFinishedData, TrialFinishedData

ROUND = 4
"""Trials that are asked for before any of them is told, whatever the number of processes: so the same seed gives the
same trials on one process and on many."""
LAST_TRIAL = 2.0
"""A trial may take this many times what is left of the budget when it starts."""

Report = Callable[[TrialFinishedData], None]


class _Trial(NamedTuple):
    parameters: Parameters
    evaluation: Evaluation
    feature: FeatureSpec | None = None


class SearchRun:
    """One search. `report` is called with each trial, in order, when its round has ended."""

    def __init__(self, task: SearchTask, folder: Path, pool: Pool, report: Report) -> None:
        self._spec, self._search, self._folder = task.spec, task.request, folder
        self._pool, self._report = pool, report
        self._budget_s, self._started = task.budget_s, time.monotonic()
        self._trials: list[_Trial] = []
        self._known: dict[str, int] = {}

    async def run(self) -> SearchFinishedData:
        """Try parameters and features until all are tried, or the budget has ended."""
        await self._try_parameters()
        await self._try_features()
        return self._finished()

    async def _try_parameters(self) -> None:
        search, sampler = self._search, None
        wanted = search.trials if search.space else 1
        share = wanted / (wanted + search.features)  # of the budget: features have their part of it
        base: list[Parameters] = [{}]
        while not self._trials or (len(self._trials) < wanted and self._left_s(share) > 0):
            number = min(ROUND, wanted - len(self._trials)) - len(base)
            sampler = sampler or Sampler(search.space, search.metric, search.seed)
            if sampler.size is not None and len(self._known) - 1 >= sampler.size:
                return
            asked = sampler.ask(number)
            found = await self._run_round(base + asked, self._left_s(share))
            if base:
                sampler.tell_base(search.model.parameters, found[0])
            sampler.tell(found[len(base) :])
            base = []

    async def _run_round(self, parameters: Sequence[Parameters], left_s: float) -> list[Evaluation]:
        """Evaluate the parameters that were not evaluated before, once each, and report all."""
        keys = [json.dumps(each, sort_keys=True) for each in parameters]
        new = {key: each for key, each in zip(keys, parameters, strict=True) if key not in self._known}
        limits = thresholds([trial.evaluation for trial in self._trials])
        tasks = [self._task(each, limits) for each in new.values()]
        evaluated = dict(zip(new, await self._pool.run(tasks, max(1.0, LAST_TRIAL * left_s)), strict=True))
        for key, each in zip(keys, parameters, strict=True):
            if key in self._known:
                self._add(_Trial(each, self._again(self._known[key])))
            else:
                self._known[key] = len(self._trials)
                self._add(_Trial(each, evaluated[key]))
        return [trial.evaluation for trial in self._trials[-len(parameters) :]]

    def _again(self, number: int) -> Evaluation:
        """The evaluation of an earlier trial, whose parameters were proposed again."""
        known = self._trials[number].evaluation
        reason = f"these were the parameters of trial {number}" + (f": {known.reason}" if known.reason else "")
        return known.model_copy(update={"seconds": 0.0, "reason": reason})

    def _task(
        self, parameters: Parameters, limits: tuple[float | None, ...], feature: FeatureSpec | None = None
    ) -> TrialTask:
        search = self._search
        return TrialTask(
            folder=self._folder,
            spec=self._spec,
            model=search.model,
            index=search.index,
            metric=search.metric,
            parameters=parameters,
            thresholds=limits,
            feature=feature,
        )

    async def _try_features(self) -> None:
        if not self._search.features or self._trials[0].evaluation.state != "complete":
            return
        waiting = candidates(self._folder, self._spec, self._search.features)
        while waiting and (left_s := self._left_s()) > 0:
            now, waiting = waiting[:ROUND], waiting[ROUND:]
            tasks = [self._task({}, (), feature) for feature in now]
            for feature, found in zip(now, await self._pool.run(tasks, max(1.0, LAST_TRIAL * left_s)), strict=True):
                self._add(_Trial({}, found, feature))

    def _left_s(self, share: float = 1.0) -> float:
        return share * self._budget_s - (time.monotonic() - self._started)

    def _add(self, trial: _Trial) -> None:
        found = trial.evaluation
        self._report(
            TrialFinishedData(
                search=self._search.search,
                trial=len(self._trials),
                parameters=trial.parameters,
                feature=trial.feature.name if trial.feature else None,
                **found.model_dump(),
            )
        )
        self._trials.append(trial)

    def _finished(self) -> SearchFinishedData:
        search, base = self._search, self._trials[0].evaluation
        tried = [n for n, trial in enumerate(self._trials) if trial.feature is None]
        best = self._best(tried)
        model, evaluation = None, None
        if best is not None:
            evaluation = self._trials[best].evaluation
            model = self._task(self._trials[best].parameters, ()).changed_model()
        ended = self._left_s() <= 0
        return SearchFinishedData(
            search=search.search,
            state="failed" if best is None else "improved" if best else "unchanged",
            metric=search.metric,
            trials=len(self._trials),
            best=best,
            model=model,
            score=evaluation and evaluation.score,
            base_score=base.score,
            features=self._proposed(),
            seconds=round(time.monotonic() - self._started, 3),
            reason=base.reason if best is None else f"the budget of {self._budget_s:g} s has ended" if ended else None,
        )

    def _best(self, tried: Sequence[int]) -> int | None:
        """The complete trial with the best score, of equals the first; None where none is complete."""
        best: int | None = None
        for n in tried:
            found = self._trials[n].evaluation
            if found.state != "complete" or found.score is None:
                continue
            against = None if best is None else self._trials[best].evaluation.score
            if against is None or is_better(self._search.metric, found.score, against):
                best = n
        return best

    def _proposed(self) -> tuple[ProposedFeature, ...]:
        """The features with which the model is better, best first."""
        base = self._trials[0].evaluation.score
        found = []
        for trial in self._trials:
            score = trial.evaluation.score
            if trial.feature and base is not None and score is not None and is_better(self._search.metric, score, base):
                written = trial.feature.model_dump(exclude_none=True)
                found.append(ProposedFeature(feature=written, score=score, gain=abs(score - base)))
        return tuple(sorted(found, key=lambda one: -one.gain))
