"""The registry's composition root: settings, database, handlers, routes."""

from __future__ import annotations

from everloop_models.first_load import LOAD_MEMORY_BYTES, LOAD_TIMEOUT_S, PRELOADED_MODULES
from everloop_models.store import ArtifactStore
from everloop_registry.adapters import BookUnit, SqlReader
from everloop_registry.api import Command, router
from everloop_registry.building import LimitedChecks
from everloop_registry.contract import StoredArtifacts
from everloop_registry.errors import DecidedNotTold
from everloop_registry.handlers import Handlers, Quota
from everloop_registry.rebuild import CatchUp
from everloop_registry.settings import RegistrySettings
from everloop_registry.tables import MIGRATIONS
from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import DriftDetected, EvaluationUpdated
from everloop_schemas.serving import VersionState
from everloop_schemas.training import ChallengeUpdated, ModelTrained, RunRequested
from everloop_shared.clock import Clock, system_clock
from everloop_shared.database import Database
from everloop_shared.errors import Overloaded, Unavailable
from everloop_shared.limited import Limited
from everloop_shared.messaging.routes import EngineFactory, Publisher, Route
from everloop_shared.outbox import SqlUnitOfWork
from everloop_shared.service import Service


def routes(handlers: Handlers) -> list[Route]:
    """Which handler takes which event."""
    return [
        Route(RunRequested.topic, handlers.on_run_requested),
        Route(ModelTrained.topic, handlers.on_model_trained),
        Route(ChallengeUpdated.topic, handlers.on_challenge_updated),
        Route(DriftDetected.topic, handlers.on_drift_detected),
        Route(EvaluationUpdated.topic, handlers.on_evaluation_updated),
        Route(VersionState.topic, handlers.on_version_state),
    ]


def build(settings: RegistrySettings, connect: EngineFactory, clock: Clock = system_clock) -> Service:
    """The service, ready to run."""
    database = Database(settings.database, MIGRATIONS, schema="registry")
    unit = BookUnit(database)
    store = ArtifactStore(settings.artifact_url, settings.max_artifact_bytes)
    child = Limited(preload=PRELOADED_MODULES, memory_bytes=LOAD_MEMORY_BYTES, seconds=LOAD_TIMEOUT_S)
    artifacts = StoredArtifacts(store, child, settings.light_check_bytes)
    specs = LimitedChecks()
    quota = Quota(settings.max_loops, settings.max_changes_per_hour)
    handlers = Handlers(unit.book, specs, artifacts, clock, quota)
    engine = connect("registry", routes(handlers), unit_of_work=unit)
    commands = Commands(unit, engine)
    catch_up = CatchUp(unit, connect, settings.partitions)
    door = router(handlers, SqlReader(database), commands, settings.max_spec_bytes, lambda: catch_up.done)
    return Service(
        name="registry",
        settings=settings,
        router=door,
        engines=[engine],
        resources=[specs, child, database, catch_up],
        background=[lambda: unit.relay_loop(engine)],
    )


class Commands:
    """Runs a command from HTTP like the engine runs an event: one transaction, then the bus, then the answer."""

    def __init__(self, unit: SqlUnitOfWork, publisher: Publisher) -> None:
        self._unit, self._publisher = unit, publisher

    async def __call__(self, command: Command) -> list[Event]:
        """What the command decided, once the broker has it."""
        async with self._unit:
            events = await command()
            await self._unit.record(events, {})
        try:
            await self._unit.relay(self._publisher)
        except (Unavailable, Overloaded) as e:
            raise DecidedNotTold(
                "the decision is stored and will be told when the broker is back; saying it again changes nothing"
            ) from e
        return events
