"""Opens and seals what serving reads, stores and publishes of loops with personal fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from everloop_features import State
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.serving import ObservationReceived, PredictionMade
from everloop_serving.domain.entity_states import EntityView
from everloop_serving.domain.new_predictions import EntityChange
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.ports import Metrics, PersonalValues
from everloop_shared.errors import InputRejected, Unavailable


@dataclass
class SealedRecords:
    """Personal values are in memory alone, and while they are used. Where a loop has none, everything passes as it is.

    What is not awaited asks no store of keys, as long as `prepare` or `open_vector` came before it.
    """

    values: PersonalValues
    metrics: Metrics

    async def prepare(self, loop: ServedLoop, entities: Iterable[str]) -> None:
        """Have the keys of entities at hand; raises Unavailable while they are away."""
        if loop.is_personal:
            await self.values.prepare(loop.loop, entities)

    async def open_vector(self, loop: ServedLoop, event: FeaturesComputed) -> FeaturesComputed | None:
        """The vector with all features; None where some were erased, which is counted."""
        if event.data.personal is None:
            await self.prepare(loop, [event.data.entity])
            return event
        opened = await self.values.open_event(event)
        if opened is None:
            self.metrics.count_erased()
        return opened

    async def open_for_answer(self, made: PredictionMade) -> PredictionMade:
        """A prediction with all features; without those that were erased."""
        return await self.values.open_event(made) or made if made.data.personal else made

    def open_now(self, made: PredictionMade) -> PredictionMade:
        """The same."""
        return self.values.open_event_now(made) or made if made.data.personal else made

    def seal(self, loop: ServedLoop, made: PredictionMade) -> PredictionMade:
        """A prediction as it is stored and published."""
        return self.values.seal_event_now(made, loop.spec.personal_features) if loop.is_personal else made

    def seal_observation(self, loop: ServedLoop, observation: ObservationReceived) -> ObservationReceived:
        """An observation as it is stored and published."""
        return self.values.seal_event_now(observation, loop.spec.personal_fields) if loop.is_personal else observation

    def blind(self, loop: ServedLoop, entity: str, digest: str) -> str:
        """The fingerprint of an observation, from which nobody can find its personal values by trying all."""
        return self.values.blind_now(loop.loop, entity, digest) if loop.is_personal else digest

    def state_of(self, loop: ServedLoop, entity: str, view: EntityView) -> State | None:
        """The windows of an entity; None where they were erased."""
        if view.sealed is None:
            return view.state
        held = self.values.unseal_now(loop.loop, entity, view.sealed)
        return held["state"] if held else None

    async def opens(self, loop: str, entity: str, view: EntityView) -> bool:
        """Whether the windows of an entity are sealed with the key that it has now; False where that cannot be said."""
        try:
            return view.sealed is not None and await self.values.unseal(loop, entity, view.sealed) is not None
        except (InputRejected, Unavailable):
            return False

    def seal_states(self, loop: ServedLoop, changes: dict[str, EntityChange]) -> None:
        """Seal the windows that a request leaves behind."""
        if not loop.is_personal:
            return
        for entity, change in changes.items():
            change.sealed = self.values.seal_now(loop.loop, entity, {"state": change.state})
            change.state = {}

    def encode(self, loop: ServedLoop, made: Sequence[PredictionMade]) -> list[bytes]:
        """Predictions for another worker."""
        return [self.seal(loop, one).encode() for one in made]
