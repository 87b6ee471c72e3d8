"""What serving does with each request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from everloop_features import State
from everloop_features.fingerprint import fingerprint
from everloop_features.observation import Observation, check_observation
from everloop_features.times import DEFAULT_TIME_LIMITS, TimeLimits
from everloop_learning.errors import LoopNotFound
from everloop_schemas.envelope import Fields
from everloop_schemas.serving import PredictionMade
from everloop_serving.domain.entity_states import EntityStates
from everloop_serving.domain.events import build_observation_event
from everloop_serving.domain.new_predictions import NewPredictions
from everloop_serving.domain.predict import PredictionRequest
from everloop_serving.domain.recent import RecentPredictions
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.errors import ObservationRejected, PredictionNotFound
from everloop_serving.handlers.predictions import Predictions
from everloop_serving.ports import ServedLoops, Spool
from everloop_shared.clock import Clock
from everloop_shared.errors import FieldError, Unavailable

log = logging.getLogger(__name__)
NAME_LENGTH = 80
"""Characters of a name in a request that an error repeats."""
STATE_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a window state of another shape can raise."""


@dataclass
class RequestHandlers:
    """Handles requests. `registry_is_read` says whether all loop states published before the start were read."""

    loops: ServedLoops
    predictions: Predictions
    spool: Spool
    recent: RecentPredictions
    entities: EntityStates
    clock: Clock
    registry_is_read: Callable[[], bool]
    load_wait_s: float = 2.0
    times: TimeLimits = DEFAULT_TIME_LIMITS

    async def predict(self, loop: str, body: Any, traceparent: str | None = None) -> PredictionMade:
        """Predict from the observation in a request. The record of the prediction is stored before this returns.

        A repeated id gets the same prediction. Raises LoopNotFound, ObservationRejected, IdTaken, SpoolFull,
        SpoolUnwritable or RecordTooLarge.
        """
        observation = self.parse_observation(loop, body)
        if isinstance(observation, list):
            raise ObservationRejected("; ".join(f"{e.field}: {e.error}" for e in observation), observation)
        [prediction] = await self.predict_all(loop, [observation], traceparent)
        return prediction

    def parse_observation(self, loop: str, body: Any) -> Observation | list[FieldError]:
        """The observation in a request, or everything that is wrong with it; raises LoopNotFound."""
        observation = check_observation(self.require_loop(loop).spec, body)
        if isinstance(observation, list):
            return observation
        if violation := self.times.find_violation(observation.time, self.clock()):
            return [FieldError("time", violation)]
        return observation

    async def predict_all(
        self, loop: str, rows: Sequence[Observation], traceparent: str | None = None
    ) -> list[PredictionMade]:
        """Predict from all observations, or from none: a request that is refused changes nothing.

        Raises LoopNotFound, IdTaken, SpoolFull, SpoolUnwritable or RecordTooLarge.
        """
        served = self.require_loop(loop)
        if served.loading:
            await self.loops.wait_loaded(loop, self.load_wait_s)
            served = self.require_loop(loop)
        predictions = self._predict_rows(served, rows, traceparent)
        await self.spool.synced()
        return predictions

    def find_prediction(self, loop: str, prediction_id: str) -> PredictionMade:
        """The prediction made under this id; raises LoopNotFound or PredictionNotFound."""
        served = self.require_loop(loop)
        if found := self.recent.get(loop, prediction_id, served.life):
            return found.event
        raise PredictionNotFound(
            f"no prediction {prediction_id[:NAME_LENGTH]!r} of {loop} is remembered here; older ones are on "
            f"{PredictionMade.topic.name}"
        )

    def require_loop(self, loop: str) -> ServedLoop:
        """The loop as it is served; raises LoopNotFound, or Unavailable while the registry's topic is being read."""
        served = self.loops.get(loop)
        if served is not None:
            return served
        if not self.registry_is_read():
            raise Unavailable(f"loop {loop[:NAME_LENGTH]!r} is not known so far, and serving is still starting")
        raise LoopNotFound(loop, deleted=self.loops.is_deleted(loop))

    def _predict_rows(
        self, loop: ServedLoop, rows: Sequence[Observation], traceparent: str | None
    ) -> list[PredictionMade]:
        """Not interrupted between the first look at an id and its record, so that no id is predicted twice."""
        now, ids = self.clock(), [row.id or str(uuid4()) for row in rows]
        digests = [fingerprint(row.entity, row.fields, row.time) for row in rows]
        found = [self.predictions.find(loop, i, d, "rest") for i, d in zip(ids, digests, strict=True)]
        predictions, new = list[PredictionMade](), NewPredictions()
        for row, prediction_id, digest, before in zip(rows, ids, digests, found, strict=True):
            if before:
                predictions.append(before.event)
                continue
            time = row.time or now
            state, features = self._compute_features(loop, row, time, now, new.state_of(row.entity))
            request = PredictionRequest(
                prediction_id, row.entity, features, time, prediction_id, digest, "rest", traceparent
            )
            prediction = self.predictions.make(loop, request)
            predictions.append(prediction)
            new.add(prediction, build_observation_event(loop, request, row.fields, now), state)
        if new.predictions:
            self.spool.append(new.events)
            self._apply(loop, new, now)
        return predictions

    def _apply(self, loop: ServedLoop, new: NewPredictions, now: datetime) -> None:
        """Remember what is stored in the spool now."""
        for entity, change in new.changes.items():
            self.entities.apply_own(loop.loop, entity, change.state, now, change.size, change.observations)
        for prediction in new.predictions:
            self.recent.add(prediction, durable=True)

    def _compute_features(
        self, loop: ServedLoop, row: Observation, time: datetime, now: datetime, state: State | None
    ) -> tuple[State, Fields]:
        """The entity's next state and the features; `state` is the one after earlier rows of the same request."""
        if state is None:
            view = self.entities.get(loop.loop, row.entity)
            state = view.state if view else loop.plan.empty()
        try:
            return loop.plan.apply(state, row.fields, time, now)
        except STATE_ERRORS as e:  # another producer's state on the topic must not cost the entity its predictions
            log.warning(
                "the stored windows of an entity cannot be used; they start empty",
                extra={"loop": loop.loop, "reason": repr(e)},
            )
            return loop.plan.apply(loop.plan.empty(), row.fields, time, now)
