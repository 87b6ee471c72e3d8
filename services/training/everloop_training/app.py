"""The composition root: settings and an engine become the training service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everloop_learning.deleted_loops import skip_deleted_loops
from everloop_learning.loops import KnownLoops
from everloop_models.intake import ModelIntake
from everloop_models.seals import Seals
from everloop_models.store import ArtifactStore
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_schemas.search import SearchFinished, SearchRequested, TrialFinished
from everloop_schemas.training import RunFinished, RunRequested
from everloop_shared.access.control import team_quotas
from everloop_shared.audit.trail import audit_trail
from everloop_shared.commands import CommandEdge, publishing
from everloop_shared.http import HttpEndpoint
from everloop_shared.http.uploads import UploadFolder
from everloop_shared.messaging.routes import EngineFactory, LogReader, Position, Route, RouteConsumer
from everloop_shared.personal import Vault
from everloop_shared.service import Service
from everloop_shared.signing import require_own_key
from everloop_shared.spans.started import start_spans
from everloop_training.adapters.artifact_collector import ArtifactCollector
from everloop_training.adapters.batch_process import BatchProcess
from everloop_training.adapters.batch_trainer import BatchTrainer
from everloop_training.adapters.data_set_files import DataSetFiles
from everloop_training.adapters.data_sets import DataSets
from everloop_training.adapters.event_publisher import EventPublisher
from everloop_training.adapters.learnable_rows import LogOf
from everloop_training.adapters.lease_watch import watch_leases
from everloop_training.adapters.personal import PersonalOutcomes
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.adapters.search_process import SearchProcess
from everloop_training.adapters.searcher import Searcher
from everloop_training.adapters.searches import MemorySearchLog
from everloop_training.adapters.supervisor import StartWorker
from everloop_training.adapters.workers import LearnerWorkers
from everloop_training.api import router
from everloop_training.api.quotas import team_router
from everloop_training.api.searches import search_router
from everloop_training.api.trainers import UPLOAD, trainer_router
from everloop_training.domain.leases import Leases
from everloop_training.domain.run_quota import RunQuota
from everloop_training.handlers import Handlers, SearchHandlers, TrainerHandlers
from everloop_training.metrics import LEASED_RUNS, OPEN_SEARCHES
from everloop_training.settings import TrainingSettings
from everloop_training.worker.protocol.pipe import WorkerProcess

if TYPE_CHECKING:
    from everloop_training.adapters.archive import Archiver


def build(
    settings: TrainingSettings, connect: EngineFactory, start_worker: StartWorker = WorkerProcess.start
) -> Service:
    """The service: the lines learn in worker processes, and the outcome log is consumed on from their snapshots."""
    start_spans("training", settings)
    require_own_key(settings, "artifacts", "snapshots")
    loops, runs, searches = KnownLoops(), MemoryRunLog(), MemorySearchLog()
    engine = connect("training")
    vault = Vault(settings.personal_keys_url, settings.personal_master_key)
    personal = PersonalOutcomes(vault)
    workers = LearnerWorkers(settings, loops, runs, searches, engine, personal, start_worker)
    teams = team_quotas(settings)
    run_quota = RunQuota(settings.max_runs_per_hour, team_quotas=teams)
    handlers = Handlers(loops, runs, workers, workers, personal, quota=run_quota)
    store, seals = ArtifactStore(settings.artifact_url, settings.max_artifact_bytes), Seals.of(settings)
    collector = ArtifactCollector(store, loops, settings.collect_after_s, runs)
    intake = ModelIntake(store, settings.max_artifact_bytes, seals)
    leases = Leases(settings.lease_s, settings.trainer_seconds)
    LEASED_RUNS.set_function(lambda: len(leases))
    search_quota = RunQuota(settings.max_searches_per_hour, "searches", teams)
    search_handlers = SearchHandlers(loops, searches, workers, quota=search_quota)
    OPEN_SEARCHES.set_function(lambda: len(searches.open()))
    trainers = TrainerHandlers(loops, runs, workers, intake, leases)
    archived = _with_archive(engine, settings.archive) if settings.archive else None
    data_sets = DataSets(loops, engine, archived, personal)
    files = DataSetFiles(settings, loops, data_sets)
    batch_trainer = BatchTrainer(
        settings.batch_folder(),
        loops,
        runs,
        workers.learn,
        data_sets,
        workers,
        store,
        BatchProcess(settings.batch_seconds, settings.batch_memory_bytes, settings.max_artifact_bytes, settings.ray),
        settings.batch_memory_bytes,
        seals,
    )
    searcher = Searcher(
        settings.search_folder(),
        loops,
        searches,
        workers.learn,
        data_sets,
        workers,
        EventPublisher(engine).publish,
        SearchProcess(settings.search_seconds, settings.search_workers, settings.batch_memory_bytes, settings.ray),
        settings.batch_memory_bytes,
    )
    edge, uploads = CommandEdge(publishing(engine.publish)), UploadFolder(settings.upload_folder(), settings)
    endpoint = router(handlers, edge, files)
    endpoint.include_router(search_router(search_handlers, edge))
    endpoint.include_router(team_router((run_quota, search_quota), teams))
    endpoint.include_router(trainer_router(trainers, edge, uploads, settings.max_artifact_bytes))

    async def on_loop_state(event: LoopState, at: Position) -> list[Event]:
        events = await handlers.on_loop_state(event, at)
        search_handlers.on_loop_state(event)
        return events

    async def on_run_requested(event: RunRequested, at: Position) -> list[Event]:
        events = await handlers.on_run_requested(event, at)
        trainers.on_run_requested()
        return events

    async def start_at(topic: str, partition: int) -> int | None:
        opened = await workers.open(partition)
        return opened.next_offset if topic == OutcomeObserved.topic.name else opened.next_alert

    routes = [
        Route(LoopState.topic, on_loop_state, broadcast=True),
        Route(RunRequested.topic, on_run_requested, broadcast=True),
        Route(RunFinished.topic, handlers.on_run_finished, broadcast=True),
        Route(SearchRequested.topic, search_handlers.on_search_requested, broadcast=True),
        Route(TrialFinished.topic, search_handlers.on_trial_finished, broadcast=True),
        Route(SearchFinished.topic, search_handlers.on_search_finished, broadcast=True),
        Route(OutcomeObserved.topic, handlers.on_outcome_observed),
        Route(DriftDetected.topic, handlers.on_drift_detected),
    ]
    consumer = engine.consumer(skip_deleted_loops("training", loops, routes), start_at=start_at)
    trail = audit_trail("training", settings, engine.publish)
    archiver = _archiver(settings, loops, connect, consumer) if settings.archive else None
    return Service(
        name="training",
        settings=settings,
        endpoints=[HttpEndpoint("training", settings, endpoint, uploads=[UPLOAD], trail=trail)],
        consumers=[consumer],
        resources=[vault, *workers.all, intake],
        background=[
            *(worker.run for worker in workers.all),
            lambda: collector.run(settings.collect_every_s),
            lambda: watch_leases(trainers, settings.lease_s),
            batch_trainer.run,
            searcher.run,
            *([archiver.run] if archiver else ()),
        ],
        readiness=[worker.not_ready for worker in workers.all],
        remarks=[lambda: personal.remarks(loops), *([archiver.remarks] if archiver else ())],
    )


def _with_archive(log: LogReader, url: str) -> LogOf:
    """The log of a loop, with what the archive holds of it and the log does not any more."""
    from everloop_archive.reader.archived_log import ArchivedLog
    from everloop_archive.reader.stored import StoredArchive
    from everloop_training.adapters.archive.archiver import open_store

    archive = StoredArchive(open_store(url))
    return lambda loop: ArchivedLog(log, archive, loop)


def _archiver(
    settings: TrainingSettings, loops: KnownLoops, connect: EngineFactory, consumer: RouteConsumer
) -> Archiver:
    """The archiver of the partitions that this replica learns from, with connections of its own."""
    from everloop_training.adapters.archive import Archiver  # needs pyarrow, for which nobody else pays

    return Archiver(settings, loops, connect("archive"), lambda: consumer.assigned(OutcomeObserved.topic))
