"""Entity handlers over a store in memory."""

from __future__ import annotations

from everloop_feature.adapters import VaultKeys
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.handlers.entities import EntityHandlers
from everloop_feature.handlers.entity_table import EntityLimits, EntityTable, entity_rule
from everloop_feature.handlers.erasures import ErasureHandlers
from everloop_feature.handlers.sealed_entities import SealedEntities
from everloop_feature.handlers.unseen import UnseenEntities
from everloop_feature.metrics import PrometheusMetrics
from everloop_shared.clock import Clock, system_clock
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.personal import Vault

NO_KEYS = Vault("", None)


def entity_handlers(loops: ActiveLoops, store: KeyedStore, vault: Vault = NO_KEYS, **limits: int) -> EntityHandlers:
    """Handlers over this store, with these of its limits, and without keys of personal values unless they are given."""
    store.index.rule = entity_rule(EntityLimits(**limits).ids_per_entity)
    metrics = PrometheusMetrics()
    sealed = SealedEntities(vault, metrics)
    return EntityHandlers(loops, EntityTable(store, loops, metrics, EntityLimits(**limits)), sealed, metrics)


def erasure_handlers(entities: EntityHandlers, vault: Vault = NO_KEYS, clock: Clock = system_clock) -> ErasureHandlers:
    """Handlers of erasures over the same entities; everything is in partition 0."""
    keys = VaultKeys(vault)
    unseen = UnseenEntities(entities.loops, keys, lambda key: 0, clock)
    return ErasureHandlers(entities.loops, entities.table, keys, unseen, entities.metrics)
