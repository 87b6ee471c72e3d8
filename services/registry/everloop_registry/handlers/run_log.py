"""Keeps Everloop's own training runs among the tracking data, as events about them come in."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_learning.losses import is_error_rate
from everloop_registry.domain.decision_log import DecisionLog
from everloop_registry.domain.run_records import (
    COUNT,
    LOG_EVERY,
    MEAN_LOSS,
    REQUESTED,
    TRAINING_USER,
    LineScore,
    finished_run,
    registered_run,
    requested_run,
)
from everloop_registry.domain.tracking import Run, experiment_id, to_millis
from everloop_registry.ports import TrackingStore
from everloop_schemas.envelope import Event
from everloop_schemas.tracking import Metric, RunChange, RunLoggedData
from everloop_schemas.training import ChallengeUpdated, Line, ModelTrainedData, RunFinished, RunRequested

MAX_SCORES = 100
"""The limit of lines whose losses are summed; the oldest is evicted."""


@dataclass
class RunLog:
    """One method per event; each is idempotent and returns the events to publish.

    A run may be a data scientist's own, of which a model was submitted: it keeps its name, state and experiment, and
    gets what is measured here.
    """

    store: TrackingStore

    async def on_run_requested(self, log: DecisionLog, event: RunRequested) -> list[Event]:
        """A run begins. What follows from it may have come in before, as topics have no common order."""
        run, change = await self.store.run(event.data.run), requested_run(event)
        if run is not None:
            if run.user != TRAINING_USER or REQUESTED in await self.store.parameters(run.id):
                return []
            if run.ended_ms is not None:
                change = change.model_copy(update={"status": None})
        return [await self._append(log, change)]

    async def on_run_finished(self, log: DecisionLog, event: RunFinished) -> list[Event]:
        """A run ends, once."""
        run = await self.store.run(event.data.run)
        is_own = run is None or run.user == TRAINING_USER
        change = finished_run(event, is_own=is_own)
        if run is not None and (run.ended_ms == change.ended_ms if is_own else await self._has(run, change)):
            return []
        return [await self._append(log, change, run, event.data.line)]

    async def on_registered(self, log: DecisionLog, event: Event, model: ModelTrainedData) -> list[Event]:
        """A version of a run is registered for the first time."""
        run, change = await self.store.run(model.run), registered_run(event, model)
        if run is None:  # of before runs were logged, or its end is yet to come
            change = change.model_copy(update={"status": "FINISHED", "ended_ms": to_millis(event.time)})
        return [await self._append(log, change, run, model.line)]

    async def on_challenge_updated(self, log: DecisionLog, event: ChallengeUpdated) -> list[Event]:
        """Sum the losses of each line, and log their mean now and then."""
        data, scores = event.data, log.working.scores
        logged = list[Event]()
        for line in data.lines:
            if (score := scores.get(line.line)) is None or score.run != line.run:
                scores.pop(line.line, None)
                score = scores[line.line] = await self._stored_score(line)
            for offset, loss in zip(data.offsets, data.losses.get(line.line, ()), strict=False):
                if loss is not None:
                    score.add(offset, loss)
            if metrics := score.take_due(to_millis(event.time), is_error_rate=is_error_rate(log.loop.spec)):
                change = RunChange(id=line.run, experiment=experiment_id(event.loop), metrics=metrics)
                logged.append(await self._append(log, change, await self.store.run(line.run), line.line))
        while len(scores) > MAX_SCORES:
            del scores[next(iter(scores))]
        return logged

    async def _stored_score(self, line: Line) -> LineScore:
        """The losses as they were logged last: after the database was filled again, there is no more exact sum."""
        mean, count = (
            await self.store.latest_metric(line.run, MEAN_LOSS),
            await self.store.latest_metric(line.run, COUNT),
        )
        if mean is None or count is None or mean.step != count.step:
            return LineScore(run=line.run)
        outcomes = int(count.value)
        return LineScore(
            run=line.run,
            outcomes=outcomes,
            total=mean.value * outcomes,
            offset=mean.step,
            next_log=outcomes + LOG_EVERY,
        )

    async def _has(self, run: Run, change: RunChange) -> bool:
        """Whether a run that is not Everloop's own has these metrics already."""
        for metric in change.metrics:
            known: Metric | None = await self.store.latest_metric(run.id, metric.key)
            if known is None or known.step < metric.step:
                return False
        return True

    async def _append(self, log: DecisionLog, change: RunChange, run: Run | None = None, line: str = "") -> Event:
        """Log under the loop, or where the run belongs to another experiment, under that one."""
        key = log.name
        if run is None and line:
            change = change.model_copy(update={"name": line, "user": TRAINING_USER})
        elif run is not None and run.experiment != change.experiment:
            experiment = await self.store.experiment(run.experiment)
            key = experiment.key if experiment else key
            change = change.model_copy(update={"experiment": run.experiment})
        return await self.store.append(key, change.id, RunLoggedData(run=change), log.context)
