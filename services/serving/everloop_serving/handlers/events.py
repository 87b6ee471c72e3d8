"""What serving does with each event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from everloop_learning.errors import LoopNotKnownYet
from everloop_schemas.envelope import Event
from everloop_schemas.erasure import EntityErasureDone
from everloop_schemas.feature import EntityState, FeaturesComputed, OutcomeObserved
from everloop_schemas.names import ID_RULE, is_id
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import PredictionMade, WindowsUsed
from everloop_serving.domain.entity_states import EntityStates
from everloop_serving.domain.label_counts import LabelCountsByLoop
from everloop_serving.domain.predict import PredictionRequest
from everloop_serving.domain.recent import RecentPredictions
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.errors import ModelLoading, VectorRejected
from everloop_serving.handlers.predictions import Predictions
from everloop_serving.handlers.sealed_records import SealedRecords
from everloop_serving.ports import PredictionHistory, ServedLoops
from everloop_shared.clock import Clock
from everloop_shared.messaging.routes import Position
from everloop_shared.personal.failures import hiding_values
from everloop_shared.personal.records import with_token

LOOP_WAIT_S = 60.0
"""How long a record of an unknown loop is retried: the feature service, which wrote it, knows the loop."""


@dataclass
class EventHandlers:
    """Handles the topics. `registry_is_read` says whether all loop states published before the start were read.

    `forget_key` drops the key of an entity (loop, entity) from memory.
    """

    loops: ServedLoops
    predictions: Predictions
    sealed: SealedRecords
    history: PredictionHistory
    recent: RecentPredictions
    entities: EntityStates
    labels: LabelCountsByLoop
    clock: Clock
    registry_is_read: Callable[[], bool]
    forget_key: Callable[[str, str], None]

    async def on_features_computed(self, event: FeaturesComputed, at: Position) -> list[Event]:
        """Predict; a prediction that is on the topic already, or on its way there, is not published again."""
        loop = self.loops.get(event.loop)
        if loop is None or loop.revision < event.revision:
            raise LoopNotKnownYet(event.loop, event.revision, LOOP_WAIT_S)
        if loop.loading:
            raise ModelLoading(f"the champion of {event.loop} is being loaded")
        if event.data.personal is not None or loop.is_personal:
            opened = await self.sealed.open_vector(loop, event)
            if opened is None:
                return []
            event = opened
        if reason := _find_misfit(loop, event):
            raise VectorRejected(reason)
        if not self.history.is_read_for(at.partition):
            await self.history.read_for(at.partition, datetime.fromtimestamp(at.timestamp / 1000, UTC))
        data = event.data
        if found := self.predictions.find(loop, data.prediction_id, data.fingerprint, "stream"):
            return [] if found.durable else [found.event]
        request = PredictionRequest(
            data.prediction_id,
            data.entity,
            data.features,
            event.time,
            event.id,
            data.fingerprint,
            "stream",
            windows=_windows_of(loop, event),
        )
        prediction = self._predict(loop, request, data.personal)
        self.recent.add(prediction, durable=False)
        return [prediction]

    def _predict(self, loop: ServedLoop, request: PredictionRequest, token: str | None) -> PredictionMade:
        """The prediction as it is published: it takes the token of its vector over."""
        if not loop.is_personal:
            return self.predictions.make(loop, request)
        with hiding_values():
            made = self.predictions.make(loop, request)
            return self.sealed.seal(loop, with_token(made, token) if token else made)

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """A loop was applied, decided upon or deleted: load its versions; at the end of a lifetime drop its state."""
        before = self.loops.get(event.loop)
        self.loops.apply(event)
        after = self.loops.get(event.loop)
        life = after.life if after else 0
        if life > 1 if before is None else before.life != life:
            self.recent.drop_loop(event.loop)
            self.entities.drop_loop(event.loop, life)
        return []

    async def on_entity_state(self, event: EntityState, at: Position) -> list[Event]:
        """The windows of an entity, as feature has them."""
        data, now = event.data, self.clock()
        self.entities.apply_published(
            event.loop, data.entity, data.state, data.applied, now, event.revision, at.size, data.personal
        )
        return []

    async def on_entity_erasure_done(self, event: EntityErasureDone, at: Position) -> list[Event]:
        """An entity was erased: drop its key, which is destroyed by now, and its windows.

        Those of somebody who came back stay: after a restore receipts of earlier erasures are published again.
        """
        self.forget_key(event.loop, event.subject)
        view = self.entities.get(event.loop, event.subject)
        if view is not None and not await self.sealed.opens(event.loop, event.subject, view):
            self.entities.drop_entity(event.loop, event.subject)
        return []

    async def on_outcome_observed(self, event: OutcomeObserved, at: Position) -> list[Event]:
        """A label, for version 0."""
        loop = self.loops.get(event.loop)
        if loop is None and not self.registry_is_read():
            raise LoopNotKnownYet(event.loop, give_up_after=LOOP_WAIT_S)
        if at.offset >= self.labels.offsets.get(at.partition, 0):
            self.labels.add(event.loop, loop.life if loop else 1, event.data)
            self.labels.offsets[at.partition] = at.offset + 1
        return []


def _windows_of(loop: ServedLoop, event: FeaturesComputed) -> WindowsUsed | None:
    """The state from which feature computed a vector; None where the loop has no windows, or feature is older."""
    applied = event.data.applied
    if applied is None or not loop.plan.has_windows:
        return None
    return WindowsUsed(applied=applied - 1, source="stream")


def _find_misfit(loop: ServedLoop, event: FeaturesComputed) -> str | None:
    """Why a vector is not what feature would have written; one of an earlier revision may have other features."""
    data = event.data
    if event.subject != data.entity:
        return "data.entity: is not the subject; name one entity in both"
    if not is_id(data.prediction_id):
        return f"data.prediction_id: must be {ID_RULE}"
    return loop.plan.find_misfit(data.features) if event.revision == loop.revision else None
