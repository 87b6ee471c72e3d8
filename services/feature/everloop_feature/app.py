"""The composition root: settings and engines become the feature service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from everloop_feature.adapters import VaultKeys
from everloop_feature.api import router
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.errors import EntityElsewhere
from everloop_feature.handlers.entities import EntityHandlers
from everloop_feature.handlers.entity_table import EntityLimits, EntityTable, entity_rule
from everloop_feature.handlers.erasures import ErasureHandlers
from everloop_feature.handlers.join_table import JoinLimits, JoinTable, join_entries
from everloop_feature.handlers.joins import JoinHandlers
from everloop_feature.handlers.loops import LoopHandlers
from everloop_feature.handlers.sealed_entities import SealedEntities
from everloop_feature.handlers.subjects import SubjectExport
from everloop_feature.handlers.unseen import UnseenEntities
from everloop_feature.metrics import PrometheusMetrics
from everloop_feature.settings import FeatureSettings
from everloop_features.times import TimeLimits
from everloop_learning.deleted_loops import skip_deleted_loops
from everloop_schemas.envelope import Event
from everloop_schemas.erasure import EntityErased
from everloop_schemas.feature import LabelJoined
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import ObservationReceived, PredictionMade
from everloop_shared.audit.trail import audit_trail
from everloop_shared.http import HttpEndpoint
from everloop_shared.messaging.keyed.expiry import keyed_on
from everloop_shared.messaging.keyed.groups import KeyedFactory, KeyedGroup
from everloop_shared.messaging.keyed.index import Total
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import EngineFactory, Position, Route
from everloop_shared.personal import Vault
from everloop_shared.service import Service
from everloop_shared.spans.started import start_spans

STATE_SHARE = 0.9
"""The share of the largest record that an entity's state may take; the rest is for the envelope."""
STATE_LAYOUT = "1"
"""Count it up with a change of what the index is made from: then the state on disk is made again."""


def build(settings: FeatureSettings, connect: EngineFactory, keyed: KeyedFactory | None = None) -> Service:
    """The service. Without `keyed` its state is in memory only, on the engines that `connect` makes."""
    start_spans("feature", settings)
    loops, metrics = ActiveLoops(), PrometheusMetrics()
    entity_store = KeyedStore("entities", ordered=True, rule=entity_rule(settings.ids_kept), layout=STATE_LAYOUT)
    join_store = KeyedStore("joins", rule=join_entries, layout=STATE_LAYOUT)
    times = TimeLimits(settings.earliest_time, settings.max_future_s)
    entity_table = EntityTable(entity_store, loops, metrics, _entity_limits(settings))
    vault = Vault(settings.personal_keys_url, settings.personal_master_key)
    sealed = SealedEntities(vault, metrics)
    entities = EntityHandlers(loops, entity_table, sealed, metrics, times)
    engine, keys = connect("feature"), VaultKeys(vault)
    join_table = JoinTable(join_store, loops, metrics, _join_limits(settings))
    joins = JoinHandlers(loops, join_table, keys, metrics, times)

    def partition_of(key: str) -> int:
        return engine.partition_for(EventReceived.topic, key.encode())

    erasures = ErasureHandlers(loops, entity_table, keys, UnseenEntities(loops, keys, partition_of), metrics)
    loop_handlers = LoopHandlers(loops, entities, joins, erasures)
    states = engine.consumer([Route(LoopState.topic, loop_handlers.on_loop_state, broadcast=True)])
    groups = [_entity_group(entity_store, loops, entities, erasures), _join_group(join_store, loops, joins)]
    streams = (keyed or keyed_on(connect, settings.partitions))("feature", groups, engine)

    def find(key: str) -> bytes | None:
        partition = partition_of(key)
        if not entity_store.owns(partition):
            raise EntityElsewhere(f"the entities of partition {partition} are not here, or not read yet")
        return entity_store.find(key, partition)

    trail = audit_trail("feature", settings, engine.publish)
    export = SubjectExport(engine, vault, settings.partitions)
    http = HttpEndpoint("feature", settings, router(loops, find, sealed.open_whole, export), trail=trail)
    return Service(name="feature", settings=settings, endpoints=[http], consumers=[states, *streams], resources=[vault])


def _entity_limits(settings: FeatureSettings) -> EntityLimits:
    return EntityLimits(
        ids_per_entity=settings.ids_kept,
        bytes_per_entity=int(settings.max_event_bytes * STATE_SHARE),
        entities=settings.max_entities,
        bytes=settings.max_entity_bytes,
    )


def _join_limits(settings: FeatureSettings) -> JoinLimits:
    return JoinLimits(
        Total(settings.max_joins, settings.max_join_bytes), Total(settings.max_waiting, settings.max_waiting_bytes)
    )


def _entity_group(
    store: KeyedStore, loops: ActiveLoops, handlers: EntityHandlers, erasures: ErasureHandlers
) -> KeyedGroup:
    routes = [
        Route(EventReceived.topic, handlers.on_event_received),
        Route(ObservationReceived.topic, handlers.on_observation_received),
        Route(LabelJoined.topic, handlers.on_label_joined),
        Route(EntityErased.topic, erasures.on_entity_erased),
    ]

    async def sweep(at: Position) -> Sequence[Event]:
        return [*await handlers.sweep(at), *await erasures.sweep(at)]

    def restored() -> None:
        handlers.restored()
        erasures.restored()

    return replace(_keyed_group(store, loops, handlers, routes), sweep=sweep, on_restored=restored)


def _join_group(store: KeyedStore, loops: ActiveLoops, handlers: JoinHandlers) -> KeyedGroup:
    routes = [
        Route(PredictionMade.topic, handlers.on_prediction_made),
        Route(LabelReceived.topic, handlers.on_label_received),
    ]
    group = _keyed_group(store, loops, handlers, routes)
    return replace(group, stored_only=frozenset([PredictionMade.topic.name]))


def _keyed_group(
    store: KeyedStore, loops: ActiveLoops, handlers: EntityHandlers | JoinHandlers, routes: list[Route]
) -> KeyedGroup:
    return KeyedGroup(
        store,
        skip_deleted_loops("feature", loops.known, routes),
        sweep=handlers.sweep,
        on_restored=handlers.restored,
    )
