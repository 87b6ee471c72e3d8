"""What serving does with each event and with each request: one prediction per prediction id, whichever the door."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from everloop_features import State
from everloop_features.errors import IdTaken
from everloop_features.observation import Observation, check_observation, fingerprint
from everloop_features.times import DEFAULT_TIME_LIMITS, TimeLimits
from everloop_learning.errors import LoopNotFound, LoopNotKnownYet
from everloop_schemas.envelope import Event, Fields, derived_id
from everloop_schemas.feature import EntityState, FeaturesComputed, OutcomeObserved
from everloop_schemas.ingest import EventReceivedData
from everloop_schemas.names import ID_RULE, is_id
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import ObservationReceived, PredictionMade, PredictionMadeData
from everloop_serving.domain.entities import Entities
from everloop_serving.domain.labels import LabelBook
from everloop_serving.domain.predict import Live, predict
from everloop_serving.domain.recent import Known, Recent
from everloop_serving.errors import (
    ModelLoading,
    ObservationRejected,
    PredictionNotFound,
    VectorRejected,
)
from everloop_serving.ports import Meter, Models, Spool, Tail
from everloop_shared.clock import Clock
from everloop_shared.errors import FieldError, Unavailable
from everloop_shared.messaging.routes import Position

Door = Literal["stream", "rest"]

log = logging.getLogger(__name__)
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What computing with a state of another shape can raise."""
LOOP_WAIT_S = 60.0
"""How long a record of an unknown loop is retried: the feature service, which wrote it, knows the loop."""


@dataclass(frozen=True)
class Asked:
    """What a prediction is asked about; `cause` is the id of the event that asks."""

    prediction_id: str
    entity: str
    features: Fields
    time: datetime
    cause: str
    fingerprint: str | None
    traceparent: str | None = None


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
    times: TimeLimits = DEFAULT_TIME_LIMITS

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
        self.entities.told(event.loop, data.entity, data.state, data.applied, self.clock(), event.revision, at.size)
        return []

    async def on_outcome_observed(self, event: OutcomeObserved, at: Position) -> list[Event]:
        """A label, for version 0."""
        live = self.models.live(event.loop)
        if live is None and not self.hearing():
            raise LoopNotKnownYet(event.loop, give_up_after=LOOP_WAIT_S)
        if at.offset >= self.labels.offsets.get(at.partition, 0):
            life = live.life if live else 1
            self.labels.observe(event.loop, life, event.data)
            self.labels.offsets[at.partition] = at.offset + 1
        return []

    async def on_features_computed(self, event: FeaturesComputed, at: Position) -> list[Event]:
        """Predict; what is known to be on the topic, or on its way there, is not said again."""
        live = self.models.live(event.loop)
        if live is None or live.revision < event.revision:
            raise LoopNotKnownYet(event.loop, event.revision, LOOP_WAIT_S)
        if live.loading:
            raise ModelLoading(f"{event.loop} is loading its champion")
        if wrong := _misfit(live, event):
            raise VectorRejected(wrong)
        if not self.tail.covers(at.partition):
            await self.tail.cover(at.partition, datetime.fromtimestamp(at.timestamp / 1000, UTC))
        data = event.data
        if known := self._known(live, data.prediction_id, data.fingerprint, "stream"):
            return [] if known.kept else [known.event]
        asked = Asked(data.prediction_id, data.entity, data.features, event.time, event.id, data.fingerprint)
        made = self._made(live, asked, "stream")
        self.recent.put(made, kept=False)
        return [made]

    async def predict(self, loop: str, body: Any, traceparent: str | None = None) -> PredictionMade:
        """Answer a request, once its record survives this process; the same id again is the same answer.

        Raises LoopNotFound, ObservationRejected, IdTaken, SpoolFull or SpoolUnwritable.
        """
        seen = self.observed(loop, body)
        if isinstance(seen, list):
            raise ObservationRejected("; ".join(f"{e.field}: {e.error}" for e in seen), seen)
        [made] = await self.predict_all(loop, [seen], traceparent)
        return made

    def observed(self, loop: str, body: Any) -> Observation | list[FieldError]:
        """The observation in a request, or all that is wrong with it; raises LoopNotFound."""
        seen = check_observation(self.revision(loop).spec, body)
        if not isinstance(seen, list) and (wrong := self.times.find_violation(seen.time, self.clock())):
            return [FieldError("time", wrong)]
        return seen

    async def predict_all(
        self, loop: str, rows: Sequence[Observation], traceparent: str | None = None
    ) -> list[PredictionMade]:
        """Answer for all observations, or for none: what is refused leaves nothing behind.

        Raises LoopNotFound, IdTaken, SpoolFull, SpoolUnwritable or RecordTooLarge.
        """
        live = self.revision(loop)
        if live.loading:
            await self.models.settled(live.loop, self.load_wait_s)
            live = self.revision(loop)
        made = self._answered(live, rows, traceparent)
        await self.spool.synced()
        return made

    def prediction(self, loop: str, prediction_id: str) -> PredictionMade:
        """What was said about a prediction id; raises LoopNotFound or PredictionNotFound."""
        live = self.revision(loop)
        if known := self.recent.get(loop, prediction_id, live.life):
            return known.event
        raise PredictionNotFound(
            f"no prediction {prediction_id[:80]!r} of {loop} is remembered here; older ones are on "
            f"{PredictionMade.topic.name}"
        )

    def revision(self, loop: str) -> Live:
        """What answers for a loop; raises LoopNotFound, or Unavailable while the registry's topic is unread."""
        live = self.models.live(loop)
        if live is not None:
            return live
        if not self.hearing():
            raise Unavailable(f"serving has not heard of loop {loop[:80]!r} so far, and is still starting")
        raise LoopNotFound(loop, deleted=self.models.deleted(loop))

    def _answered(self, live: Live, rows: Sequence[Observation], traceparent: str | None) -> list[PredictionMade]:
        """Nothing comes in between from the first look to the last record: so no id is answered twice."""
        now, ids = self.clock(), [seen.id or str(uuid4()) for seen in rows]
        prints = [fingerprint(seen.entity, seen.fields, seen.time) for seen in rows]
        known = [self._known(live, i, p, "rest") for i, p in zip(ids, prints, strict=True)]
        answers, fresh = list[PredictionMade](), list[PredictionMade]()
        events, moves, grown = list[Event](), dict[str, list[State]](), Counter[str]()
        for seen, prediction_id, printed, before in zip(rows, ids, prints, known, strict=True):
            if before:
                answers.append(before.event)
                continue
            time = seen.time or now
            state, features = self._features(live, seen, time, now, moves.get(seen.entity))
            asked = Asked(prediction_id, seen.entity, features, time, prediction_id, printed, traceparent)
            made = self._made(live, asked, "rest")
            answers.append(made)
            fresh.append(made)
            brought = _brought(live, seen, asked, now)
            events += [made, brought]
            grown[seen.entity] += len(brought.encode())
            moves.setdefault(seen.entity, []).append(state)
        if events:
            self.spool.append(events)
        for entity, states in moves.items():
            for state in states:
                self.entities.moved(live.loop, entity, state, now, grown.pop(entity, 0))
        for made in fresh:
            self.recent.put(made, kept=True)
        return answers

    def _known(self, live: Live, prediction_id: str, printed: str | None, door: Door) -> Known | None:
        """What was said under this id; raises IdTaken where that was about other data."""
        known = self.recent.get(live.loop, prediction_id, live.life)
        if known is None:
            return None
        before = known.event.data.fingerprint
        if before is not None and printed is not None and before != printed:
            self.meter.taken(live.loop, door)
            raise IdTaken(
                f"id: {prediction_id!r} was asked before with other data (entity, fields or time); give each its own id"
            )
        self.meter.reused(live.loop, door)
        return known

    def _features(
        self, live: Live, seen: Observation, time: datetime, now: datetime, moved: list[State] | None
    ) -> tuple[State, Fields]:
        view = self.entities.get(live.loop, seen.entity)
        state = moved[-1] if moved else view.state if view else live.plan.empty()
        try:
            return live.plan.apply(state, seen.fields, time, now)
        except MALFORMED as e:  # what somebody else put on the topic must not cost the entity its answers
            log.warning(
                "a state of windows cannot be used, starting anew", extra={"loop": live.loop, "reason": repr(e)}
            )
            return live.plan.apply(live.plan.empty(), seen.fields, time, now)

    def _made(self, live: Live, asked: Asked, door: Door) -> PredictionMade:
        said = predict(live, asked.prediction_id, asked.entity, asked.features, self.timer)
        for version, reason in said.fell:
            self.models.fell(live, version, reason)
        self.meter.predicted(live.loop, door, said)
        return PredictionMade(
            id=derived_id(live.loop, PredictionMade.type_name(), asked.prediction_id),
            time=self.clock(),
            subject=asked.prediction_id,
            loop=live.loop,
            revision=live.revision,
            causationid=asked.cause,
            traceparent=asked.traceparent,
            data=PredictionMadeData(
                entity=asked.entity,
                features=asked.features,
                prediction=said.answer.value,
                probabilities=said.answer.probabilities,
                version=said.version,
                role=said.role,
                propensity=said.propensity,
                latency_ms=said.latency_ms,
                observed=asked.time,
                door=door,
                shadows=said.shadows,
                fingerprint=asked.fingerprint,
            ),
        )


def _misfit(live: Live, event: FeaturesComputed) -> str | None:
    """Why a vector is not what feature would have written; one of an earlier revision may be of other features."""
    if event.subject != event.data.entity:
        return "data.entity: is not the subject; name one entity in both"
    if not is_id(event.data.prediction_id):
        return f"data.prediction_id: must be {ID_RULE}"
    return live.plan.find_misfit(event.data.features) if event.revision == live.revision else None


def _brought(live: Live, seen: Observation, asked: Asked, now: datetime) -> ObservationReceived:
    return ObservationReceived(
        id=asked.prediction_id,
        time=asked.time,
        subject=seen.entity,
        loop=live.loop,
        revision=live.revision,
        traceparent=asked.traceparent,
        data=EventReceivedData(entity=seen.entity, fields=seen.fields, received=now),
    )
