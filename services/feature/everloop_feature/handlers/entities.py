"""Observations and labels of entities become vectors and windows."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_feature.domain.admission import admit_observation
from everloop_feature.domain.entity import FINGERPRINT_BYTES, Entity
from everloop_feature.domain.events import build_dead_letter, build_entity_state_events, build_features_event
from everloop_feature.domain.loops import ActiveLoop, ActiveLoops
from everloop_feature.errors import TimeOutOfBounds
from everloop_feature.handlers.entity_table import EntityTable
from everloop_feature.handlers.sealed_entities import SealedEntities
from everloop_feature.ports import Metrics
from everloop_features.errors import IdTaken
from everloop_features.fingerprint import fingerprint
from everloop_features.times import DEFAULT_TIME_LIMITS, LOG_TOLERANCE, TimeLimits
from everloop_schemas.envelope import Event
from everloop_schemas.feature import LabelJoined
from everloop_schemas.ingest import EventReceived
from everloop_schemas.serving import ObservationReceived
from everloop_shared.clock import Clock, system_clock
from everloop_shared.messaging.routes import Position
from everloop_shared.personal.failures import hiding_values


@dataclass
class EntityHandlers:
    """Handles the topics keyed by loop/entity."""

    loops: ActiveLoops
    table: EntityTable
    sealed: SealedEntities
    metrics: Metrics
    times: TimeLimits = DEFAULT_TIME_LIMITS
    clock: Clock = system_clock
    keys_per_sweep: int = 2_000

    async def on_event_received(self, event: EventReceived, at: Position) -> list[Event]:
        """An observation that ingest accepted: its vector, for serving to predict from, and the entity's windows."""
        if wrong := self.times.find_violation(event.time, self.clock(), LOG_TOLERANCE):
            return [build_dead_letter(event, at, TimeOutOfBounds(f"time {wrong}"))]
        loop = self.loops.require(event.loop, event.revision)
        opened = await self.sealed.open_observation(loop, event)
        observed = None if opened is None else self._observe(loop, opened, at)
        if observed is None:
            return []
        self.metrics.count_vector(event.loop)
        entity, digest = observed
        return [
            build_features_event(event, entity, digest, loop.revision),
            *build_entity_state_events(event, entity, loop.life),
        ]

    async def on_observation_received(self, event: ObservationReceived, at: Position) -> list[Event]:
        """An observation that serving has predicted from already: the entity's windows only."""
        if wrong := self.times.find_violation(event.time, self.clock(), LOG_TOLERANCE):
            return [build_dead_letter(event, at, TimeOutOfBounds(f"time {wrong}"))]
        loop = self.loops.require(event.loop, event.revision)
        opened = await self.sealed.open_observation(loop, event)
        observed = None if opened is None else self._observe(loop, opened, at)
        return build_entity_state_events(event, observed[0], loop.life) if observed else []

    async def on_label_joined(self, event: LabelJoined, at: Position) -> list[Event]:
        """A label of a prediction of the entity, for `lag: label`."""
        key, loop = event.key().decode(), self.loops.require(event.loop, event.revision)
        if self.table.is_applied(key, at):
            return []
        data = event.data
        before = await self.sealed.open_for_label(loop, data.entity, self.table.load(key, at, loop.life))
        if before is None:
            return []
        entity = before.apply_label(loop.plan, data.label, data.observed or event.time, data.correction)
        if entity == before:
            return []  # it came before, or is of an older observation than the label known: neither changes a window
        entity = self.sealed.seal_state(loop, data.entity, entity)
        self.table.save_labelled(key, entity, at)
        return build_entity_state_events(event, entity, loop.life)

    async def sweep(self, at: Position) -> list[Event]:
        """Delete entities of ended loop lifetimes, and those beyond the limits that were used longest ago."""
        self.table.delete_ended(at, self.keys_per_sweep)
        if at.timestamp:  # before anything was read, only an entity's own state knows which records were applied
            self.table.evict(at, self.keys_per_sweep)
        self.table.report_size(at.partition)
        return []

    def restored(self) -> None:
        """The state was read back, and the partitions may be others."""
        self.table.cleanup.clear()

    def on_loop_ended(self, loop: str) -> None:
        """A lifetime of the loop has ended: the next sweeps delete its entities."""
        self.table.cleanup.schedule(loop)

    def _observe(
        self, loop: ActiveLoop, event: EventReceived | ObservationReceived, at: Position
    ) -> tuple[Entity, str] | None:
        """The entity after an observation, as it is stored, and the observation's fingerprint.

        None for an observation that is applied already. Raises RecordRejected, StateTooLarge, and IdTaken where another
        observation came under the same id.
        """
        key = event.key().decode()
        if self.table.is_applied(key, at):
            return None
        if not loop.is_personal:
            return self._apply(loop, event, key, at)
        with hiding_values():
            return self._apply(loop, event, key, at)

    def _apply(
        self, loop: ActiveLoop, event: EventReceived | ObservationReceived, key: str, at: Position
    ) -> tuple[Entity, str] | None:
        fields = admit_observation(loop, event)
        entity = self.sealed.open(loop, event.subject, self.table.load(key, at, loop.life))
        digest = fingerprint(event.subject, fields, None if event.time == event.data.received else event.time)
        digest = self.sealed.blind(loop, event.subject, digest)
        mark = bytes.fromhex(digest)[:FINGERPRINT_BYTES]
        match self.table.match_id(key, entity, event.id, mark, at):
            case "same":
                self.metrics.count_duplicate(event.loop)
                return None
            case "other":
                self.metrics.count_id_taken(event.loop)
                raise IdTaken(
                    f"id: {event.id!r} is the id of another observation of {event.subject!r}; give each its own"
                )
        entity = self.table.make_page_room(key, entity, at)
        entity = entity.observe(loop.plan, event.id, fields, event.time, event.data.received, mark)
        entity = self.sealed.seal(loop, event, entity)
        self.table.save_observed(key, entity, at)
        return entity, digest
