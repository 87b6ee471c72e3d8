"""What serving does with each event and with each request: one prediction per prediction id, whichever the door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from everloop_features import State
from everloop_features.observation import Observation, observe
from everloop_features.times import USUAL_TIMES, TimeLimits
from everloop_schemas.envelope import Event, Fields, derived_id
from everloop_schemas.feature import EntityState, FeaturesComputed, OutcomeObserved
from everloop_schemas.ingest import EventReceivedData
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import ObservationReceived, PredictionMade, PredictionMadeData
from everloop_serving.domain.entities import Entities
from everloop_serving.domain.labels import LabelBook
from everloop_serving.domain.predict import Live, Said, predict
from everloop_serving.domain.recent import Recent
from everloop_serving.errors import LoopNotKnown, ModelLoading, ObservationRejected, PredictionNotFound
from everloop_serving.ports import Meter, Models, Spool, Tail
from everloop_shared.clock import Clock
from everloop_shared.errors import FieldError, Unavailable
from everloop_shared.messaging.routes import Position


@dataclass
class Handlers:
    """Serving's use cases. `timer` counts seconds; `hearing` says whether the registry's topic has been read."""

    models: Models
    spool: Spool
    tail: Tail
    meter: Meter
    recent: Recent
    entities: Entities
    labels: LabelBook
    clock: Clock
    timer: Callable[[], float]
    hearing: Callable[[], bool]
    load_wait_s: float = 2.0
    times: TimeLimits = USUAL_TIMES
    _asked: dict[tuple[str, str], asyncio.Future[PredictionMade]] = field(default_factory=dict, init=False)

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """A loop was applied or decided upon: hold the versions it names; of one that was deleted, forget all."""
        before = self.models.live(event.loop)
        self.models.want(event)
        after = self.models.live(event.loop)
        life = after.life if after else 0
        if life > 1 if before is None else before.life != life:
            self.recent.forget(event.loop)
            self.entities.forget(event.loop, life)
        return []

    async def on_entity_state(self, event: EntityState, at: Position) -> list[Event]:
        """The feature service's view of an entity."""
        data = event.data
        self.entities.told(event.loop, data.entity, data.state, data.applied, self.clock(), event.revision)
        return []

    async def on_outcome_observed(self, event: OutcomeObserved, at: Position) -> list[Event]:
        """A label, for version 0."""
        live = self.models.live(event.loop)
        if live is None and not self.hearing():
            raise LoopNotKnown(f"loop {event.loop} is not known here yet, so nor is which of its labels count")
        if at.offset >= self.labels.offsets.get(at.partition, 0):
            data = event.data
            self.labels.live(event.loop, live.life if live else 1).observe(
                data.prediction_id, data.label, data.correction
            )
            self.labels.offsets[at.partition] = at.offset + 1
        return []

    async def on_features_computed(self, event: FeaturesComputed, at: Position) -> list[Event]:
        """Predict; what is known to be on the topic, or on its way there, is not said again."""
        live = self.models.live(event.loop)
        if live is None or live.revision < event.revision:
            raise LoopNotKnown(f"loop {event.loop} at revision {event.revision} is not known here yet")
        if live.loading:
            raise ModelLoading(f"{event.loop} is loading its champion")
        if not self.tail.covers(at.partition):
            await self.tail.cover(at.partition, datetime.fromtimestamp(at.timestamp / 1000, UTC))
        data = event.data
        if asked := self._asked.get((event.loop, data.prediction_id)):
            await asyncio.wait([asked])  # the same id is being asked by REST: that answer counts
        if known := self.recent.get(event.loop, data.prediction_id, live.life):
            self.meter.reused(event.loop, "stream")
            return [] if known.kept else [known.event]
        said = self._predict(live, data.prediction_id, data.entity, data.features)
        made = self._made(live, data.prediction_id, data.entity, data.features, event.time, said, "stream", event.id)
        self.recent.put(made, kept=False)
        return [made]

    async def predict(self, loop: str, body: Any, traceparent: str | None = None) -> PredictionMade:
        """Answer a request, once its record survives this process; the same id again is the same answer.

        Raises LoopNotKnown, ObservationRejected, SpoolFull or SpoolUnwritable.
        """
        live = self.revision(loop)
        seen = observe(live.spec, body)
        if isinstance(seen, list):
            raise ObservationRejected("; ".join(f"{e.field}: {e.error}" for e in seen), seen)
        if wrong := self.times.wrong(seen.time, self.clock()):
            raise ObservationRejected(f"time: {wrong}", [FieldError("time", wrong)])
        prediction_id = seen.id or str(uuid4())
        if asked := self._asked.get((loop, prediction_id)):
            return await asyncio.shield(asked)
        if known := self.recent.get(loop, prediction_id, live.life):
            self.meter.reused(loop, "rest")
            return known.event
        answer: asyncio.Future[PredictionMade] = asyncio.get_running_loop().create_future()
        self._asked[loop, prediction_id] = answer
        try:
            made = await self._answer(live, prediction_id, seen, traceparent)
            answer.set_result(made)
            return made
        except BaseException as e:
            answer.set_exception(e if isinstance(e, Exception) else Unavailable("the first request was given up"))
            answer.exception()  # nobody has to be waiting for it
            raise
        finally:
            del self._asked[loop, prediction_id]

    def prediction(self, loop: str, prediction_id: str) -> PredictionMade:
        """What was said about a prediction id; raises LoopNotKnown or PredictionNotFound."""
        live = self.revision(loop)
        if known := self.recent.get(loop, prediction_id, live.life):
            return known.event
        raise PredictionNotFound(
            f"no prediction {prediction_id[:80]!r} of {loop} is remembered here; older ones are on "
            f"{PredictionMade.topic.name}"
        )

    def revision(self, loop: str) -> Live:
        """What answers for a loop; raises LoopNotKnown, or Unavailable while the registry's topic is unread."""
        live = self.models.live(loop)
        if live is not None:
            return live
        if not self.hearing():
            raise Unavailable(f"serving has not heard of loop {loop[:80]!r} so far, and is still starting")
        if self.models.deleted(loop):
            raise LoopNotKnown(f"loop {loop[:80]!r} was deleted; apply it again to begin anew: everloop apply -f FILE")
        raise LoopNotKnown(f"no loop {loop[:80]!r}; apply it first: everloop apply -f FILE")

    async def _answer(
        self, live: Live, prediction_id: str, seen: Observation, traceparent: str | None
    ) -> PredictionMade:
        if live.loading:
            await self.models.settled(live.loop, self.load_wait_s)
            live = self.models.live(live.loop) or live
        now = self.clock()
        time = seen.time or now
        state, features = self._features(live, seen, time, now)
        said = self._predict(live, prediction_id, seen.entity, features)
        made = self._made(live, prediction_id, seen.entity, features, time, said, "rest", prediction_id)
        brought = ObservationReceived(
            id=prediction_id,
            time=time,
            subject=seen.entity,
            loop=live.loop,
            revision=live.revision,
            traceparent=traceparent,
            data=EventReceivedData(entity=seen.entity, fields=seen.fields, received=now),
        )
        made = made.model_copy(update={"traceparent": traceparent}) if traceparent else made
        self.spool.append([made, brought])
        # Nobody came in between: what is refused has moved nothing, and the next of its entity builds on what is kept.
        self.entities.moved(live.loop, seen.entity, state, now)
        self.recent.put(made, kept=True)
        await self.spool.synced()
        return made

    def _features(self, live: Live, seen: Observation, time: datetime, now: datetime) -> tuple[State, Fields]:
        view = self.entities.get(live.loop, seen.entity)
        return live.plan.apply(view.state if view else live.plan.empty(), seen.fields, time, now)

    def _predict(self, live: Live, prediction_id: str, entity: str, features: Fields) -> Said:
        said = predict(live, prediction_id, entity, features, self.timer)
        for version, reason in said.fell:
            self.models.fell(live, version, reason)
        return said

    def _made(
        self,
        live: Live,
        prediction_id: str,
        entity: str,
        features: Fields,
        observed: datetime,
        said: Said,
        door: Any,
        cause: str,
    ) -> PredictionMade:
        self.meter.predicted(live.loop, door, said)
        return PredictionMade(
            id=derived_id(live.loop, PredictionMade.type_name(), prediction_id),
            time=self.clock(),
            subject=prediction_id,
            loop=live.loop,
            revision=live.revision,
            causationid=cause,
            data=PredictionMadeData(
                entity=entity,
                features=features,
                prediction=said.answer.value,
                probabilities=said.answer.probabilities,
                version=said.version,
                role=said.role,
                propensity=said.propensity,
                latency_ms=said.latency_ms,
                observed=observed,
                door=door,
                shadows=said.shadows,
            ),
        )
