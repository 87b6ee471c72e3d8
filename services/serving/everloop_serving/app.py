"""The composition root: settings and an engine become the serving service."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

from everloop_features.times import TimeLimits
from everloop_learning.deleted_loops import skip_deleted_loops
from everloop_models.first_load import LOAD_MEMORY_BYTES, LOAD_TIMEOUT_S, PRELOADED_MODULES, try_artifact
from everloop_models.seals import Seals
from everloop_models.store import ArtifactStore
from everloop_schemas.catalogue import TOPICS
from everloop_schemas.erasure import EntityErasureDone
from everloop_schemas.feature import EntityState, FeaturesComputed, OutcomeObserved
from everloop_schemas.registry import LoopState
from everloop_serving import metrics
from everloop_serving.adapters.artifacts import ArtifactLoader
from everloop_serving.adapters.delivery import SpoolRecovery, VersionReports, deliver_spool
from everloop_serving.adapters.entity_reader import FeatureEntityReader, LatestStates
from everloop_serving.adapters.loaded_loops import LoadedLoops
from everloop_serving.adapters.local_state import LocalState, OutcomeOffsets
from everloop_serving.adapters.peers import WorkerPeers
from everloop_serving.adapters.prediction_history import TopicPredictionHistory
from everloop_serving.adapters.spool import DiskSpool
from everloop_serving.adapters.version_loads import LoadRetries, VersionLoads
from everloop_serving.api import routes_of, worker_metrics
from everloop_serving.api.open_inference import CONVENTIONS
from everloop_serving.domain.entity_states import EntityStates
from everloop_serving.domain.label_counts import LabelCountsByLoop
from everloop_serving.domain.peer_messages import AnyPeerMessage, GetMetrics
from everloop_serving.domain.recent import RecentPredictions
from everloop_serving.handlers.entity_windows import EntityWindows
from everloop_serving.handlers.events import EventHandlers
from everloop_serving.handlers.inference import InferenceHandlers
from everloop_serving.handlers.predictions import Predictions
from everloop_serving.handlers.requests import RequestHandlers
from everloop_serving.handlers.routed_requests import RoutedRequestHandlers
from everloop_serving.handlers.sealed_records import SealedRecords
from everloop_serving.settings import WORKER_FOLDER, ServingSettings
from everloop_shared.access.callers import CallerLimits
from everloop_shared.audit.trail import AuditTrail, audit_trail
from everloop_shared.clock import Clock, system_clock
from everloop_shared.commands import CommandEdge, stored_by_handler
from everloop_shared.endpoint import Endpoint
from everloop_shared.http import HttpEndpoint
from everloop_shared.http.exposition import own_metrics
from everloop_shared.limited import Limited
from everloop_shared.messaging.routes import EngineFactory, LogReader, Route
from everloop_shared.personal import Vault
from everloop_shared.service import Service
from everloop_shared.signing import trust_of
from everloop_shared.spans.started import start_spans
from everloop_shared.tls import client_tls
from everloop_shared.workers import Worker

RETRY_FAILED_VERSIONS_S = 30.0
TRIAL_NICENESS = 5
"""The first load of a version, in another process, gives way to requests."""


def build(
    settings: ServingSettings, connect: EngineFactory, clock: Clock = system_clock, worker: Worker | None = None
) -> Service:
    """The service. It owns a spool and a few small files below its folder, and answers requests without the others.

    With `worker`, it is one of several processes behind one port.
    """
    start_spans("serving", settings)
    folder, engine = settings.folder_of_worker(worker.number if worker else 0), connect("serving")
    counts, reports, labels = metrics.PrometheusMetrics(), VersionReports(), LabelCountsByLoop(settings.label_bytes)
    child = Limited(
        preload=PRELOADED_MODULES, memory_bytes=LOAD_MEMORY_BYTES, seconds=LOAD_TIMEOUT_S, niceness=TRIAL_NICENESS
    )
    recent = RecentPredictions(settings.recent_predictions, settings.recent_bytes)
    entities = EntityStates(settings.entity_states, settings.entity_bytes)
    loads = _version_loads(settings, folder, child, counts)
    loops = LoadedLoops(loads, labels, reports.add, counts, instance=settings.instance, clock=clock)
    spool, history = _spool(settings, folder), _history(settings, recent, engine)
    left = [_spool(settings, other) for other in _folders_without_worker(settings, worker)]
    reader = FeatureEntityReader(
        settings.feature_url,
        settings.entity_reads,
        lambda key: engine.partition_for(EntityState.topic, key.encode()),
        client_tls(settings),
        settings.own_token(),
    )
    predictions = Predictions(loops, recent, counts, clock, time.perf_counter)
    vault = Vault(settings.personal_keys_url, settings.personal_master_key)
    sealed = SealedRecords(vault, counts)

    def registry_is_read() -> bool:
        return engine.ready() is None

    request_ports = (
        loops,
        predictions,
        spool,
        recent,
        EntityWindows(
            loops,
            entities,
            reader if settings.feature_url else None,
            sealed,
            counts,
            clock,
            registry_is_read,
            settings.entity_read_ms / 1000,
        ),
        sealed,
        clock,
        registry_is_read,
        settings.load_wait_s,
        TimeLimits(settings.earliest_time, settings.max_future_s),
    )
    peers = WorkerPeers(worker, _PeerAnswers(lambda: requests), lambda: service.not_ready()) if worker else None
    requests = RoutedRequestHandlers(*request_ports, peers=peers) if peers else RequestHandlers(*request_ports)
    api, direct = routes_of(requests, settings, lambda: service.not_ready())
    if peers:
        api.include_router(worker_metrics.router(peers))
    events = EventHandlers(
        loops, predictions, sealed, history, recent, entities, labels, clock, registry_is_read, vault.forget
    )
    erased = Route(
        EntityErasureDone.topic, events.on_entity_erasure_done, broadcast=True, start_at=partial(_end_of, engine)
    )
    states_from = LatestStates(entities, settings.entity_states, engine) if settings.feature_url else None
    routes = skip_deleted_loops(
        "serving", loops.known, [*_routes(events, OutcomeOffsets(labels, engine), states_from), erased]
    )
    state = LocalState(folder, loops, labels, trust_of(settings))

    async def publish_reports() -> None:
        await history.read_once()
        await reports.publish_all(engine.publish_encoded)

    trail = audit_trail("serving", settings, engine.publish)
    grpc = _grpc(settings, requests, worker, trail)
    _set_gauges(spool, recent, entities, labels)
    service = Service(
        name="serving",
        settings=settings,
        endpoints=[HttpEndpoint("serving", settings, api, worker, direct, CONVENTIONS, trail=trail), *grpc],
        consumers=[engine.consumer(routes, start_at=history.on_assigned)],
        resources=[
            child,
            vault,
            reader,
            state,
            spool,
            *left,
            *(SpoolRecovery(each, recent) for each in (*left, spool)),
            *([peers] if peers else []),
        ],
        background=[
            *(partial(deliver_spool, each, engine.publish_encoded, settings.drain_s) for each in (spool, *left)),
            publish_reports,
            lambda: state.save_often(settings.labels_save_s),
            lambda: loops.retry_failed(RETRY_FAILED_VERSIONS_S),
        ],
        readiness=[history.not_read],
        ready_without_broker=True,
    )
    return service


async def _end_of(reader: LogReader, topic: str, partition: int) -> int:
    """Where a topic is read from whose earlier records concern nothing in memory."""
    return await reader.end_offset(TOPICS[topic], partition)


class _PeerAnswers:
    """The answers to other workers."""

    def __init__(self, requests: Callable[[], RequestHandlers]) -> None:
        self._requests = requests

    async def answer(self, message: AnyPeerMessage) -> Sequence[bytes]:
        if isinstance(message, GetMetrics):
            return [await own_metrics(as_openmetrics=message.as_openmetrics)]
        return await self._routed().answer(message)

    def answer_at_once(self, message: AnyPeerMessage) -> Sequence[bytes] | None:
        return None if isinstance(message, GetMetrics) else self._routed().answer_at_once(message)

    def _routed(self) -> RoutedRequestHandlers:
        requests = self._requests()
        assert isinstance(requests, RoutedRequestHandlers), "workers ask each other only where there are several"
        return requests


def _grpc(
    settings: ServingSettings, requests: RequestHandlers, worker: Worker | None, trail: AuditTrail | None
) -> list[Endpoint]:
    """The endpoint of gRPC; where it is switched off, its libraries are not loaded."""
    if not settings.grpc_port:
        return []
    from everloop_serving.api.open_inference_grpc.endpoint import GrpcEndpoint

    edge, interceptors = CommandEdge(stored_by_handler), []
    limits = CallerLimits("serving", settings) if settings.has_caller_limits else None
    if settings.has_access_control:
        from everloop_serving.api.open_inference_grpc.access import RequireRole
        from everloop_shared.access.control import authenticator

        interceptors.append(RequireRole(authenticator(settings), limits, trail))
    return [GrpcEndpoint(settings, InferenceHandlers(requests), edge, worker, interceptors, limits, trail)]


def _routes(handlers: EventHandlers, offsets: OutcomeOffsets, states_from: LatestStates | None) -> list[Route]:
    return [
        Route(FeaturesComputed.topic, handlers.on_features_computed),
        Route(LoopState.topic, handlers.on_loop_state, broadcast=True),
        Route(
            EntityState.topic,
            handlers.on_entity_state,
            broadcast=True,
            start_at=states_from.start_at if states_from else None,
        ),
        Route(OutcomeObserved.topic, handlers.on_outcome_observed, broadcast=True, start_at=offsets.start_at),
    ]


def _version_loads(
    settings: ServingSettings, folder: Path, child: Limited, counts: metrics.PrometheusMetrics
) -> VersionLoads:
    store = ArtifactStore(settings.artifact_url, settings.max_artifact_bytes)
    seals = Seals.of(settings)
    loader = ArtifactLoader(store, folder / "artifacts", lambda *artifact: child.run(try_artifact, *artifact), seals)
    return VersionLoads(loader, counts, LoadRetries(settings.load_attempts, settings.load_retry_s))


def _history(settings: ServingSettings, recent: RecentPredictions, reader: LogReader) -> TopicPredictionHistory:
    return TopicPredictionHistory(
        recent,
        reader,
        partitions=settings.partitions,
        records=settings.tail_records,
        limit=settings.recent_predictions,
        margin=timedelta(seconds=settings.tail_margin_s),
    )


def _spool(settings: ServingSettings, folder: Path) -> DiskSpool:
    return DiskSpool(
        folder / "spool",
        limit=settings.spool_bytes,
        segment_bytes=settings.spool_segment_bytes,
        event_bytes=settings.max_event_bytes,
        fsync=settings.spool_fsync,
        fsync_interval_s=settings.spool_fsync_interval_s,
    )


def _folders_without_worker(settings: ServingSettings, worker: Worker | None) -> list[Path]:
    """The folders of workers that do not run any more, as there are fewer now: the first worker delivers their spools.

    A repeated id finds the predictions in there at that worker only.
    """
    if worker is not None and worker.number > 0:
        return []
    running = {settings.folder_of_worker(number) for number in range(worker.count if worker else 1)}
    return sorted(set(settings.folder("serving").glob(f"{WORKER_FOLDER}*")) - running)


def _set_gauges(spool: DiskSpool, recent: RecentPredictions, entities: EntityStates, labels: LabelCountsByLoop) -> None:
    metrics.SPOOL_BYTES.set_function(lambda: spool.bytes)
    metrics.SPOOL_RECORDS.set_function(lambda: spool.record_count)
    metrics.RECENT.set_function(lambda: len(recent))
    metrics.RECENT_BYTES.set_function(lambda: recent.bytes)
    metrics.ENTITIES.set_function(lambda: len(entities))
    metrics.ENTITY_BYTES.set_function(lambda: entities.bytes)
    metrics.LABEL_BYTES.set_function(lambda: labels.bytes)
