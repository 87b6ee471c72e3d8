"""The composition root: settings and an engine become the training service."""

from __future__ import annotations

from everloop_learning.deleted_loops import skip_deleted_loops
from everloop_learning.loops import KnownLoops
from everloop_models.store import ArtifactStore
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_schemas.training import RunFinished, RunRequested
from everloop_shared.commands import CommandEdge, publishing
from everloop_shared.http import HttpEndpoint
from everloop_shared.messaging.routes import EngineFactory, Route
from everloop_shared.service import Service
from everloop_training.adapters.artifact_collector import ArtifactCollector
from everloop_training.adapters.data_set_files import DataSetFiles
from everloop_training.adapters.data_sets import DataSets
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.adapters.supervisor import StartWorker, WorkerSupervisor
from everloop_training.api import router
from everloop_training.domain.run_quota import RunQuota
from everloop_training.handlers import Handlers
from everloop_training.settings import TrainingSettings
from everloop_training.worker.protocol.pipe import WorkerProcess


def build(
    settings: TrainingSettings, connect: EngineFactory, start_worker: StartWorker = WorkerProcess.start
) -> Service:
    """The service: the lines learn in a worker process, and the outcome log is consumed on from their snapshots."""
    loops, runs = KnownLoops(), MemoryRunLog()
    engine = connect("training")
    supervisor = WorkerSupervisor(settings, loops, runs, engine, start_worker)
    handlers = Handlers(loops, runs, supervisor.feeder, supervisor.client, quota=RunQuota(settings.max_runs_per_hour))
    collector = ArtifactCollector(ArtifactStore(settings.artifact_url), loops, settings.collect_after_s)

    files = DataSetFiles(settings, loops, DataSets(loops, engine))

    async def start_at(topic: str, partition: int) -> int | None:
        opened = await supervisor.open(partition)
        return opened.next_offset if topic == OutcomeObserved.topic.name else opened.next_alert

    routes = [
        Route(LoopState.topic, handlers.on_loop_state, broadcast=True),
        Route(RunRequested.topic, handlers.on_run_requested, broadcast=True),
        Route(RunFinished.topic, handlers.on_run_finished, broadcast=True),
        Route(OutcomeObserved.topic, handlers.on_outcome_observed),
        Route(DriftDetected.topic, handlers.on_drift_detected),
    ]
    return Service(
        name="training",
        settings=settings,
        endpoints=[
            HttpEndpoint("training", settings, router(handlers, CommandEdge(publishing(engine.publish)), files))
        ],
        consumers=[engine.consumer(skip_deleted_loops("training", loops, routes), start_at=start_at)],
        resources=[supervisor],
        background=[supervisor.run, lambda: collector.run(settings.collect_every_s)],
        readiness=[supervisor.not_ready],
    )
