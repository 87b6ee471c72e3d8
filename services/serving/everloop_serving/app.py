"""The composition root: settings and an engine become the serving service."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from fastapi import APIRouter

from everloop_features.times import TimeLimits
from everloop_learning.deleted_loops import skip_deleted_loops
from everloop_models.first_load import LOAD_MEMORY_BYTES, LOAD_TIMEOUT_S, PRELOADED_MODULES, try_artifact
from everloop_models.store import ArtifactStore
from everloop_schemas.feature import EntityState, FeaturesComputed, OutcomeObserved
from everloop_schemas.registry import LoopState
from everloop_serving import api, inference, metrics
from everloop_serving.adapters.artifacts import Artifacts
from everloop_serving.adapters.delivery import Promised, Reports, deliver
from everloop_serving.adapters.memory import LocalMemory, OutcomePlaces
from everloop_serving.adapters.models import LoadedModels, Retries
from everloop_serving.adapters.spool import DiskSpool
from everloop_serving.adapters.tail import TopicTail
from everloop_serving.domain.entities import Entities
from everloop_serving.domain.labels import LabelBook
from everloop_serving.domain.recent import Recent
from everloop_serving.handlers import Handlers
from everloop_serving.settings import ServingSettings
from everloop_shared.clock import Clock, system_clock
from everloop_shared.commands import CommandEdge, stored_by_handler
from everloop_shared.http import HttpEndpoint
from everloop_shared.limited import Limited
from everloop_shared.messaging.routes import EngineFactory, Route
from everloop_shared.service import Service

TRY_AGAIN_S = 30.0


def build(settings: ServingSettings, connect: EngineFactory, clock: Clock = system_clock) -> Service:
    """The service. It owns a spool and a few small files below its folder, and needs nothing else to answer."""
    folder = settings.folder("serving")
    meter, reports, labels = metrics.PrometheusMeter(), Reports(), LabelBook(settings.label_bytes)
    store = ArtifactStore(settings.artifact_url, settings.max_artifact_bytes)
    child = Limited(preload=PRELOADED_MODULES, memory_bytes=LOAD_MEMORY_BYTES, seconds=LOAD_TIMEOUT_S)
    recent = Recent(settings.recent_predictions, settings.recent_bytes)
    entities = Entities(settings.entity_states, settings.entity_bytes)
    models = LoadedModels(
        Artifacts(store, folder / "artifacts", lambda *artifact: child.run(try_artifact, *artifact)),
        labels,
        reports.add,
        meter,
        instance=settings.instance,
        clock=clock,
        retries=Retries(settings.load_attempts, settings.load_retry_s),
    )
    spool = _spool(settings)
    engine = connect("serving")
    tail = TopicTail(
        recent,
        engine,
        partitions=settings.partitions,
        records=settings.tail_records,
        limit=settings.recent_predictions,
        margin=timedelta(seconds=settings.tail_margin_s),
    )
    handlers = Handlers(
        models,
        spool,
        tail,
        meter,
        recent,
        entities,
        labels,
        clock,
        time.perf_counter,
        hearing=lambda: engine.ready() is None,
        load_wait_s=settings.load_wait_s,
        times=TimeLimits(settings.earliest_time, settings.max_future_s),
    )
    places = OutcomePlaces(labels, engine)
    routes = skip_deleted_loops("serving", models.known, _routes(handlers, places))
    memory = LocalMemory(folder, models, labels)

    async def reporting() -> None:
        await tail.start()
        await reports.deliver(engine.publish)

    metrics.SPOOL_BYTES.set_function(lambda: spool.bytes)
    metrics.SPOOL_RECORDS.set_function(lambda: spool.depth)
    metrics.RECENT.set_function(lambda: len(recent))
    metrics.RECENT_BYTES.set_function(lambda: recent.bytes)
    metrics.ENTITY_BYTES.set_function(lambda: entities.bytes)
    metrics.LABEL_BYTES.set_function(lambda: labels.bytes)
    metrics.ENTITIES.set_function(lambda: len(entities))
    service = Service(
        name="serving",
        settings=settings,
        endpoints=[HttpEndpoint("serving", settings, _router(handlers, settings, lambda: service.not_ready()))],
        consumers=[engine.consumer(routes, start_at=tail.assigned)],
        resources=[child, memory, spool, Promised(spool, recent)],
        background=[
            lambda: deliver(spool, engine.publish),
            reporting,
            lambda: memory.save_often(settings.labels_save_s),
            lambda: models.try_again(TRY_AGAIN_S),
        ],
        readiness=[tail.not_read],
        ready_without_broker=True,
    )
    return service


def _routes(handlers: Handlers, places: OutcomePlaces) -> list[Route]:
    return [
        Route(FeaturesComputed.topic, handlers.on_features_computed),
        Route(LoopState.topic, handlers.on_loop_state, broadcast=True),
        Route(EntityState.topic, handlers.on_entity_state, broadcast=True),
        Route(OutcomeObserved.topic, handlers.on_outcome_observed, broadcast=True, start_at=places.start),
    ]


def _spool(settings: ServingSettings) -> DiskSpool:
    return DiskSpool(
        settings.folder("serving") / "spool",
        limit=settings.spool_bytes,
        segment_bytes=settings.spool_segment_bytes,
        event_bytes=settings.max_event_bytes,
        fsync=settings.spool_fsync,
        fsync_interval_s=settings.spool_fsync_interval_s,
    )


def _router(handlers: Handlers, settings: ServingSettings, not_ready: Callable[[], str | None]) -> APIRouter:
    whole = APIRouter()
    commands = CommandEdge(stored_by_handler)
    whole.include_router(api.router(handlers, commands, settings))
    whole.include_router(inference.router(handlers, commands, settings, not_ready))
    return whole
