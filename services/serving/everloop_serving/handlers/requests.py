"""What serving does with each request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from everloop_features.fingerprint import fingerprint
from everloop_features.observation import Observation, check_observation
from everloop_features.times import DEFAULT_TIME_LIMITS, TimeLimits
from everloop_learning.errors import LoopNotFound
from everloop_schemas.serving import PredictionMade
from everloop_serving.domain.events import build_observation_event, describe_predictions
from everloop_serving.domain.new_predictions import MAX_ROWS, NewPredictions, id_taken
from everloop_serving.domain.predict import PredictionRequest
from everloop_serving.domain.recent import RecentPredictions
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.errors import NAME_LENGTH, DeadlineExceeded, PredictionNotFound, rejection
from everloop_serving.handlers.entity_windows import EntityWindows, ReadSource
from everloop_serving.handlers.predictions import Predictions
from everloop_serving.handlers.sealed_records import SealedRecords
from everloop_serving.ports import ServedLoops, Spool
from everloop_shared.clock import Clock
from everloop_shared.errors import ERRORS_LIMIT, FieldError, Unavailable, listed
from everloop_shared.personal.failures import hiding_values
from everloop_shared.random_ids import random_id
from everloop_shared.tracing import span_attributes

EXPLAIN_S = 0.1
"""For the explanations of one request together, in which nothing else is answered."""
MAX_EXPLAIN_S = 0.02
"""For one explanation."""
MAX_EXPLAINED = 100
"""Observations of one request that may ask for an explanation."""


@dataclass
class RequestHandlers:
    """Handles requests. `registry_is_read` says whether all loop states published before the start were read."""

    loops: ServedLoops
    predictions: Predictions
    spool: Spool
    recent: RecentPredictions
    windows: EntityWindows
    sealed: SealedRecords
    clock: Clock
    registry_is_read: Callable[[], bool]
    load_wait_s: float = 2.0
    times: TimeLimits = DEFAULT_TIME_LIMITS

    def require_observation(self, loop: str, body: Any) -> Observation:
        """The observation in a request; raises LoopNotFound, or ObservationRejected with everything that is wrong."""
        observation = self.parse_observation(loop, body)
        if isinstance(observation, list):
            raise rejection(observation)
        return observation

    def require_observations(self, loop: str, bodies: Sequence[Any]) -> list[Observation]:
        """The observations in a list; raises as `require_observation`, and each error names its row: `[3].data.x`."""
        if not 1 <= len(bodies) <= MAX_ROWS:
            raise rejection([FieldError("body", f"must have 1 to {MAX_ROWS:,} observations, has {len(bodies):,}")])
        rows = [self.parse_observation(loop, body) for body in bodies]
        wrong = [
            FieldError(f"[{n}].{e.field}", e.error) for n, row in enumerate(rows) if isinstance(row, list) for e in row
        ]
        asked = [n for n, row in enumerate(rows) if not isinstance(row, list) and row.explain]
        if len(asked) > MAX_EXPLAINED:
            most = f"only {MAX_EXPLAINED} observations of a request are explained; send the others in another one"
            wrong.append(FieldError(f"[{asked[MAX_EXPLAINED]}].explain", most))
        if wrong:
            raise rejection(wrong[:ERRORS_LIMIT])
        return [row for row in rows if not isinstance(row, list)]

    def parse_observation(self, loop: str, body: Any) -> Observation | list[FieldError]:
        """The observation in a request, or everything that is wrong with it; raises LoopNotFound."""
        spec, explain = self.require_loop(loop).spec, False
        if isinstance(body, dict) and "explain" in body:
            explain = body["explain"]
            body = {name: value for name, value in body.items() if name != "explain"}
        observation = check_observation(spec, body)
        if type(explain) is not bool:
            wrong = [FieldError("explain", "must be true or false")]
            return wrong + observation if isinstance(observation, list) else wrong
        if isinstance(observation, list):
            return observation
        if explain:
            observation = replace(observation, explain=True)
        if violation := self.times.find_violation(observation.time, self.clock()):
            return [FieldError("time", violation)]
        return observation

    def has_valid_times(self, rows: Sequence[Observation]) -> bool:
        """Whether `parse_observation` would accept the times of these observations."""
        now = self.clock()
        return not any(row.time is not None and self.times.find_violation(row.time, now) for row in rows)

    async def predict_all(
        self,
        loop: str,
        rows: Sequence[Observation],
        traceparent: str | None = None,
        deadline: float | None = None,
        version: str | None = None,
    ) -> list[PredictionMade]:
        """Predict from all observations, or from none: a request that is refused changes nothing.

        The records are stored before this returns. A repeated id gets the same prediction. `deadline` is in seconds of
        `predictions.timer`: what is not stored by then is not predicted at all; what is stored, but not synced as the
        settings ask for, is answered by a retry. `version` is the one that serves, instead of the split's choice.
        Raises LoopNotFound, IdTaken, SpoolFull, SpoolUnwritable, RecordTooLarge or DeadlineExceeded, and with a version
        VersionNotFound or VersionFailed.
        """
        served = self.require_loop(loop)
        if served.loading:
            await self.loops.wait_loaded(loop, min(self.load_wait_s, self._seconds_left(deadline)))
            served = self.require_loop(loop)
        reads: Mapping[str, ReadSource] = {}
        if missing := self.windows.missing(served, [row.entity for row in rows]):
            # Half of the time at most, so that a request is answered from empty windows rather than refused.
            reads = await self.windows.read(served, missing, self._seconds_left(deadline) / 2)
            served = self.require_loop(loop)
        if served.is_personal:
            await self.sealed.prepare(served, [row.entity for row in rows])
            served = self.require_loop(loop)
        if deadline is not None and self._seconds_left(deadline) <= 0:
            raise DeadlineExceeded("nothing was predicted or stored in the time given by Timeout-Ms; allow more time")
        served.require_version(version)
        if served.is_personal:
            with hiding_values():
                predictions = self._predict_rows(served, rows, reads, traceparent, version)
        else:
            predictions = self._predict_rows(served, rows, reads, traceparent, version)
        if deadline is None:
            await self.spool.synced()
        else:
            await self._sync_until(deadline, predictions)
        return predictions

    def predict_at_once(
        self, loop: str, rows: Sequence[Observation], traceparent: str | None = None, version: str | None = None
    ) -> list[PredictionMade] | None:
        """As `predict_all`; None, before anything is changed, where that would have to wait for something."""
        served = self.require_loop(loop)
        if served.loading or self.spool.syncs_each or served.is_personal:
            return None
        if self.windows.missing(served, [row.entity for row in rows]):
            return None
        served.require_version(version)
        return self._predict_rows(served, rows, {}, traceparent, version)

    def predict_elsewhere(
        self, loop: str, rows: Sequence[Observation], traceparent: str | None = None
    ) -> Awaitable[list[PredictionMade]] | None:
        """As `predict_all`, where all rows are for another worker; None, before anything is changed, where not."""
        return None

    async def _sync_until(self, deadline: float, predictions: Sequence[PredictionMade]) -> None:
        try:
            async with asyncio.timeout(self._seconds_left(deadline)):
                await self.spool.synced()
        except TimeoutError:
            ids = listed([prediction.subject for prediction in predictions])
            raise DeadlineExceeded(
                f"stored, but not synced to disk within Timeout-Ms; the same request gets the answer: {ids}"
            ) from None

    def _seconds_left(self, deadline: float | None) -> float:
        return math.inf if deadline is None else max(0.0, deadline - self.predictions.timer())

    def find_prediction(self, loop: str, prediction_id: str) -> PredictionMade:
        """The prediction made under this id; raises LoopNotFound or PredictionNotFound."""
        served = self.require_loop(loop)
        if found := self.recent.get(loop, prediction_id, served.life):
            return found.event
        raise PredictionNotFound(
            f"no prediction {prediction_id[:NAME_LENGTH]!r} of {loop} is remembered here; older ones are on "
            f"{PredictionMade.topic.name}"
        )

    async def look_up_prediction(self, loop: str, prediction_id: str) -> PredictionMade:
        """As `find_prediction`, with its personal features; several workers ask each other."""
        return await self.sealed.open_for_answer(self.find_prediction(loop, prediction_id))

    async def look_up_revision(self, loop: str) -> int:
        """The revision of the loop's spec that serves; raises LoopNotFound."""
        return self.require_loop(loop).revision

    def require_loop(self, loop: str) -> ServedLoop:
        """The loop as it is served; raises LoopNotFound, or Unavailable while the registry's topic is being read."""
        served = self.loops.get(loop)
        if served is not None:
            return served
        if not self.registry_is_read():
            raise Unavailable(f"loop {loop[:NAME_LENGTH]!r} is not known so far, and serving is still starting")
        raise LoopNotFound(loop, deleted=self.loops.is_deleted(loop))

    def _predict_rows(
        self,
        loop: ServedLoop,
        rows: Sequence[Observation],
        reads: Mapping[str, ReadSource],
        traceparent: str | None,
        version: str | None,
    ) -> list[PredictionMade]:
        """Not interrupted between the first look at an id and its record, so that no id is predicted twice.

        `reads` says of the entities that were not in memory how the read of their states ended.
        """
        now = self.clock()
        digests = [self.sealed.blind(loop, row.entity, fingerprint(row.entity, row.fields, row.time)) for row in rows]
        found = [
            self.predictions.find(loop, row.id, digest, "rest") if row.id else None
            for row, digest in zip(rows, digests, strict=True)
        ]
        predictions, new = list[PredictionMade](), NewPredictions()
        for row, digest, before in zip(rows, digests, found, strict=True):
            if known := before.event if before else new.find(row.id, digest):
                if version is not None and known.data.version != version:
                    raise id_taken(known.subject, known.data.version)
                known = self.sealed.open_now(known)
                predictions.append(self._explained(loop, known, rows) if row.explain else known)
                continue
            time, prediction_id = row.time or now, row.id or random_id()
            begin, windows = self.windows.find(loop, row.entity, new.changes.get(row.entity), reads.get(row.entity))
            state, features, windows = self.windows.compute(loop, row, time, now, begin, windows)
            request = PredictionRequest(
                prediction_id, row.entity, features, time, prediction_id, digest, "rest", traceparent, windows, version
            )
            if row.explain:
                request = request._replace(explain_s=_explain_seconds(rows))
            prediction = self.predictions.make(loop, request)
            predictions.append(prediction)
            observation = self.sealed.seal_observation(loop, build_observation_event(loop, request, row.fields, now))
            new.add(self.sealed.seal(loop, prediction), observation, state)
        if new.predictions:
            self.sealed.seal_states(loop, new.changes)
            self.spool.append(new.events)
            self._apply(loop, new, now)
        if (described := span_attributes()) is not None:
            described |= describe_predictions(predictions)
        return predictions

    def _explained(self, loop: ServedLoop, known: PredictionMade, rows: Sequence[Observation]) -> PredictionMade:
        """A prediction made before, which was not explained then: its record stays as it is."""
        if loop.is_personal and not loop.spec.personal_features <= known.data.features.keys():
            return known  # some of its features were erased
        return self.predictions.explained(loop, known, _explain_seconds(rows))

    def _apply(self, loop: ServedLoop, new: NewPredictions, now: datetime) -> None:
        """Remember what is stored in the spool now."""
        for entity, change in new.changes.items():
            self.windows.states.apply_own(
                loop.loop, entity, change.state, now, change.size, change.observations, change.windows, change.sealed
            )
        for prediction in new.predictions:
            self.recent.add(prediction, durable=True)


def _explain_seconds(rows: Sequence[Observation]) -> float:
    """How long each explanation of a request may take."""
    return min(MAX_EXPLAIN_S, EXPLAIN_S / sum(row.explain for row in rows))
