"""Opens what is stored of entities, and seals it before it is stored or published, in loops with personal fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from everloop_feature.domain.entity import Entity
from everloop_feature.domain.events import build_features_event
from everloop_feature.domain.loops import ActiveLoop
from everloop_feature.ports import Metrics, PersonalValues
from everloop_schemas.ingest import EventReceived
from everloop_schemas.serving import ObservationReceived
from everloop_shared.personal.records import in_places

Observed = TypeVar("Observed", EventReceived, ObservationReceived)


@dataclass
class SealedEntities:
    """The personal values of observations and entities. Where a loop has none, everything passes as it is."""

    values: PersonalValues
    metrics: Metrics

    async def open_observation(self, loop: ActiveLoop, event: Observed) -> Observed | None:
        """The observation with its personal values; None where they were erased. Its entity's key is at hand then."""
        if event.data.personal is None:
            if loop.is_personal:  # it came before the fields became personal
                await self.values.prepare(event.loop, [event.data.entity])
            return event
        opened = await self.values.open_event(event)
        if opened is None:
            self.metrics.count_erased()
        return opened

    def blind(self, loop: ActiveLoop, entity: str, digest: str) -> str:
        """The fingerprint of an observation, from which nobody can find its personal values by trying all."""
        return self.values.blind_now(loop.spec.loop, entity, digest) if loop.is_personal else digest

    def open(self, loop: ActiveLoop, name: str, entity: Entity) -> Entity:
        """The entity with its state; its windows are empty where they were sealed for somebody who was erased."""
        if entity.sealed_state is None:
            return entity
        held = self.values.unseal_now(loop.spec.loop, name, entity.sealed_state)
        return entity.with_state(held["state"] if held else {})

    async def open_whole(self, loop: str, name: str, entity: Entity) -> Entity | None:
        """The entity with its state and all of its features; None where they were erased."""
        if entity.sealed_state is not None:
            if (held := await self.values.unseal(loop, name, entity.sealed_state)) is None:
                return None
            entity = entity.with_state(held["state"])
        if entity.sealed_features is not None:
            if (held := await self.values.unseal(loop, name, entity.sealed_features)) is None:
                return None
            entity = entity.with_features(in_places(entity.features, held["features"], held["places"]))
        return entity

    async def open_for_label(self, loop: ActiveLoop, name: str, entity: Entity) -> Entity | None:
        """The same for a label, which makes no key; None where the entity was erased, or nothing is known of it."""
        if entity.sealed_state is None:  # a loop that is not personal now may have sealed it before
            return entity if entity.applied or not loop.is_personal else None
        if (held := await self.values.unseal(loop.spec.loop, name, entity.sealed_state)) is None:
            self.metrics.count_erased()
            return None
        return entity.with_state(held["state"])

    def seal(self, loop: ActiveLoop, event: EventReceived | ObservationReceived, entity: Entity) -> Entity:
        """The entity after an observation, as it may be stored."""
        if not loop.is_personal:
            return entity
        vector = build_features_event(event, entity, "", loop.revision)
        sealed = self.values.seal_event_now(vector, loop.spec.personal_features).data
        return self.seal_state(loop, event.data.entity, entity.with_features(sealed.features, sealed.personal))

    def seal_state(self, loop: ActiveLoop, name: str, entity: Entity) -> Entity:
        """The entity with its state sealed."""
        if not loop.is_personal or not entity.state:
            return entity
        return entity.with_state({}, self.values.seal_now(loop.spec.loop, name, {"state": entity.state}))
