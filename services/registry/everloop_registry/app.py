"""The registry's composition root: settings, database, handlers, routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version

from everloop_models.first_load import LOAD_MEMORY_BYTES, LOAD_TIMEOUT_S, PRELOADED_MODULES
from everloop_models.intake import ModelIntake
from everloop_models.seals import Seals
from everloop_models.store import ArtifactStore
from everloop_registry.adapters.approval_expiry import ApprovalExpiry
from everloop_registry.adapters.artifact_checks import ChildProcessArtifactChecks
from everloop_registry.adapters.artifact_files import StoredArtifactFiles
from everloop_registry.adapters.decision_store import RegistryUnitOfWork
from everloop_registry.adapters.logged_model_reader import SqlLoggedModelReader
from everloop_registry.adapters.loop_finder import SqlLoopFinder
from everloop_registry.adapters.loop_reader import SqlLoopReader
from everloop_registry.adapters.model_reader import SqlModelReader
from everloop_registry.adapters.origin_reader import SqlOriginReader
from everloop_registry.adapters.recovery import TopicRecovery
from everloop_registry.adapters.run_files import RunFiles
from everloop_registry.adapters.run_reader import SqlRunReader
from everloop_registry.adapters.spec_checks import ChildProcessSpecChecks
from everloop_registry.adapters.tracking_reader import SqlTrackingReader
from everloop_registry.adapters.version_reader import SqlVersionReader
from everloop_registry.api.mlflow import ARTIFACT, MlflowApi, mlflow_router
from everloop_registry.api.routes import router, team_router
from everloop_registry.api.submissions import UPLOAD
from everloop_registry.domain.decision_log import Sign, leave_unsigned
from everloop_registry.handlers import CommandHandlers, EventHandlers, Quota, SubmissionHandlers
from everloop_registry.handlers.erasures import ErasureHandlers
from everloop_registry.handlers.experiments import ExperimentHandlers
from everloop_registry.handlers.logged_models import LoggedModelHandlers
from everloop_registry.handlers.notes import NoteHandlers
from everloop_registry.handlers.registrations import RegistrationHandlers
from everloop_registry.handlers.run_log import RunLog
from everloop_registry.handlers.runs import RunHandlers
from everloop_registry.settings import RegistrySettings
from everloop_registry.tables import MIGRATIONS
from everloop_schemas.erasure import EntityErasureDone
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected, EvaluationUpdated
from everloop_schemas.serving import VersionState
from everloop_schemas.training import ChallengeUpdated, ModelTrained, RunFinished, RunRequested
from everloop_shared.access.control import team_quotas
from everloop_shared.audit.trail import audit_trail
from everloop_shared.clock import Clock, system_clock
from everloop_shared.commands import CommandEdge, in_transaction
from everloop_shared.database import Database
from everloop_shared.http import HttpEndpoint
from everloop_shared.http.conventions import Conventions
from everloop_shared.http.uploads import UploadFolder
from everloop_shared.limited import Limited
from everloop_shared.messaging.routes import EngineFactory, LogReader, Route
from everloop_shared.service import Service
from everloop_shared.signing import require_own_key, signer_of
from everloop_shared.spans.started import start_spans

MLFLOW = Conventions("/api", "message", frozenset({None}))  # its client sends DELETE without a content type


def routes(handlers: EventHandlers, erasures: ErasureHandlers) -> list[Route]:
    """Which handler takes which event."""
    return [
        Route(RunRequested.topic, handlers.on_run_requested),
        Route(RunFinished.topic, handlers.on_run_finished),
        Route(ModelTrained.topic, handlers.on_model_trained),
        Route(ChallengeUpdated.topic, handlers.on_challenge_updated),
        Route(DriftDetected.topic, handlers.on_drift_detected),
        Route(EvaluationUpdated.topic, handlers.on_evaluation_updated),
        Route(VersionState.topic, handlers.on_version_state),
        Route(EntityErasureDone.topic, erasures.on_erasure_done),
    ]


def build(settings: RegistrySettings, connect: EngineFactory, clock: Clock = system_clock) -> Service:
    """The service, ready to run."""
    start_spans("registry", settings)
    database = Database(settings.database, MIGRATIONS, schema="registry")
    require_own_key(settings, "decisions", "artifacts")
    unit, seals = RegistryUnitOfWork(database, settings.settle_s, _sign(settings)), Seals.of(settings)
    store = ArtifactStore(settings.artifact_url, settings.max_artifact_bytes)
    child = Limited(preload=PRELOADED_MODULES, memory_bytes=LOAD_MEMORY_BYTES, seconds=LOAD_TIMEOUT_S)
    artifacts = ChildProcessArtifactChecks(store, child, settings.light_check_bytes, seals)
    specs = ChildProcessSpecChecks(settings.training_allow)
    quota = Quota(settings.max_loops, settings.max_changes_per_hour)
    engine = connect("registry")
    events, erasures = (
        EventHandlers(unit.store, artifacts, clock, RunLog(unit.tracking)),
        ErasureHandlers(unit.store, clock),
    )
    consumer = engine.consumer(routes(events, erasures), unit_of_work=unit)
    teams = team_quotas(settings)
    commands = CommandHandlers(unit.store, specs, clock, quota, teams)
    recovery = TopicRecovery(unit, connect, settings.partitions, clock)
    reader, intake = SqlLoopReader(database), ModelIntake(store, settings.max_artifact_bytes, seals)

    def partition_of(loop: str) -> int:
        return engine.partition_for(OutcomeObserved.topic, loop.encode())

    submissions = SubmissionHandlers(unit.store, reader, intake, partition_of, clock, quota)
    uploads = UploadFolder(settings.folder("registry") / "uploads", settings)
    edge = CommandEdge(in_transaction(unit, engine))
    expiry = ApprovalExpiry(commands, reader, edge.execute, lambda: recovery.done)
    endpoint = router(
        commands,
        reader,
        SqlOriginReader(database),
        edge,
        settings,
        submissions,
        erasures,
        uploads,
        lambda: recovery.done,
        unit,
    )
    versions, logged = SqlVersionReader(database), SqlLoggedModelReader(database)
    files = StoredArtifactFiles(versions, RunFiles(settings.artifact_url), store, settings.file_limits)
    mlflow = MlflowApi(
        experiments=ExperimentHandlers(unit.tracking, clock, settings.tracking_limits),
        runs=RunHandlers(unit.tracking, clock, settings.tracking_limits),
        run_reader=SqlRunReader(database),
        notes=NoteHandlers(unit.tracking, clock),
        reader=SqlTrackingReader(database),
        models=SqlModelReader(database),
        files=files,
        uploads=uploads,
        max_file_bytes=settings.max_artifact_bytes,
        logged_models=LoggedModelHandlers(unit.tracking, clock, settings.tracking_limits),
        logged_model_reader=logged,
        registrations=RegistrationHandlers(submissions, logged, versions, files, settings.max_artifact_bytes),
        finder=SqlLoopFinder(database),
    )
    endpoint.include_router(team_router(reader, teams, lambda: recovery.done))
    endpoint.include_router(mlflow_router(mlflow, edge, lambda: recovery.done))
    mirror = [_mirror(settings, database, unit, engine, versions, files)] if settings.mlflow_mirror else []
    told = [_lineage(settings, database, unit, engine, partition_of)] if settings.openlineage_url else []
    trail = audit_trail("registry", settings, engine.publish)
    return Service(
        name="registry",
        settings=settings,
        endpoints=[
            HttpEndpoint("registry", settings, endpoint, conventions=MLFLOW, uploads=[ARTIFACT, UPLOAD], trail=trail)
        ],
        consumers=[consumer],
        resources=[specs, child, intake, database, recovery, files],
        background=[lambda: unit.relay_loop(engine), expiry.run, *mirror, *told],
    )


def _sign(settings: RegistrySettings) -> Sign:
    """How decisions and states are signed."""
    if (signer := signer_of(settings)) is None:
        return leave_unsigned
    from everloop_shared.signing.events import sign_event  # its library is loaded where there is a key

    return partial(sign_event, key=signer)


def _mirror(
    settings: RegistrySettings,
    database: Database,
    unit: RegistryUnitOfWork,
    reader: LogReader,
    versions: SqlVersionReader,
    files: StoredArtifactFiles,
) -> Callable[[], Awaitable[None]]:
    """The background job that mirrors."""
    # Imported here, as few installations mirror: without its HTTP client the registry starts sooner and is smaller.
    from everloop_registry.adapters.mirror import MLFLOW, Mirror
    from everloop_registry.adapters.mirror_server import MlflowServer
    from everloop_registry.adapters.mirror_state import MirrorState
    from everloop_registry.adapters.mirror_writer import MirrorWriter

    server = MlflowServer(settings.mlflow_mirror, settings.mirror_token)
    state = MirrorState(database, unit, server.url)
    mirror = Mirror(MLFLOW, reader, MirrorWriter(server, state, versions, files), state, settings.partitions)

    async def run() -> None:
        async with server:
            await mirror.run()

    return run


def _lineage(
    settings: RegistrySettings,
    database: Database,
    unit: RegistryUnitOfWork,
    reader: LogReader,
    partition_of: Callable[[str], int],
) -> Callable[[], Awaitable[None]]:
    """The background job that tells a lineage backend."""
    # Imported here, as for the mirror.
    from everloop_registry.adapters.lineage_backend import LineageBackend
    from everloop_registry.adapters.lineage_teller import LINEAGE, LineageTeller
    from everloop_registry.adapters.mirror import Mirror
    from everloop_registry.adapters.mirror_state import MirrorState
    from everloop_registry.domain.openlineage.event import LineageSource
    from everloop_registry.domain.openlineage.names import DataSetNames

    url, key = settings.lineage_backend
    names = DataSetNames(settings.kafka_bootstrap, settings.topic_prefix, settings.archive)
    source = LineageSource(settings.openlineage_namespace, names, version("everloop"))
    backend = LineageBackend(url, key)
    state = MirrorState(database, unit, f"{settings.openlineage_namespace} {backend.url}")
    teller = LineageTeller(source, backend, state, database, partition_of)
    mirror = Mirror(LINEAGE, reader, teller, state, settings.partitions)

    async def run() -> None:
        async with backend:
            await mirror.run()

    return run
