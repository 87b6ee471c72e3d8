"""The composition root: the database, the handlers, the routes and the endpoints of monitoring."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from everloop_learning.deleted_loops import skip_deleted_loops
from everloop_monitoring.adapters.gauges import update_gauges
from everloop_monitoring.adapters.ingest import HttpIngest
from everloop_monitoring.adapters.letters import SqlLetterReader
from everloop_monitoring.adapters.reader import SqlMonitoringReader
from everloop_monitoring.adapters.registry import HttpRegistry
from everloop_monitoring.adapters.row_names import LifetimeNames
from everloop_monitoring.adapters.unit_of_work import BatchUnitOfWork
from everloop_monitoring.api import letter_router, router
from everloop_monitoring.api.alerts import add_alerts
from everloop_monitoring.api.console import console_router
from everloop_monitoring.api.objectives import add_objectives
from everloop_monitoring.api.session import session_router
from everloop_monitoring.api.sign_in import sign_in_router
from everloop_monitoring.api.verdicts import verdict_router
from everloop_monitoring.handlers import Handlers
from everloop_monitoring.handlers.letters import LetterHandlers
from everloop_monitoring.handlers.sign_in import SignInHandlers
from everloop_monitoring.handlers.silencing import Silencing
from everloop_monitoring.ports import SignInProvider
from everloop_monitoring.settings import MonitoringSettings
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.ingest import EventReceived
from everloop_schemas.monitoring import DeadLetterSent
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.search import SearchFinished, SearchRequested
from everloop_schemas.serving import ObservationReceived, PredictionMade, VersionState
from everloop_schemas.training import LineFailed, ModelTrained, RunFinished, RunRequested
from everloop_shared.audit.trail import audit_trail
from everloop_shared.clock import system_clock
from everloop_shared.commands import CommandEdge, in_transaction
from everloop_shared.database import Database, sqlite_url
from everloop_shared.http import HttpEndpoint
from everloop_shared.messaging.routes import EngineFactory, Route
from everloop_shared.service import Service
from everloop_shared.spans.started import start_spans
from everloop_shared.tls import client_tls

if TYPE_CHECKING:
    from everloop_monitoring.adapters.receivers.delivery import Delivery
    from everloop_shared.http.browser_sessions import BrowserSessions

NAME = "monitoring"
CaughtUp = Callable[[float], Awaitable[bool]]
"""Waits so many seconds at most until every record that was there is handled; False where some are not."""
MIGRATIONS = Path(__file__).with_name("migrations")


def routes(handlers: Handlers) -> list[Route]:
    """Which handler consumes which topic."""
    return [
        Route(LoopState.topic, handlers.on_loop_state, broadcast=True),
        Route(EventReceived.topic, handlers.on_observation),
        Route(ObservationReceived.topic, handlers.on_observation),
        Route(PredictionMade.topic, handlers.on_prediction_made),
        Route(OutcomeObserved.topic, handlers.on_outcome_observed),
        Route(Decided.topic, handlers.on_decided),
        Route(RunRequested.topic, handlers.on_run_requested),
        Route(RunFinished.topic, handlers.on_run_finished),
        Route(SearchRequested.topic, handlers.on_search_requested),
        Route(SearchFinished.topic, handlers.on_search_finished),
        Route(LineFailed.topic, handlers.on_line_failed),
        Route(ModelTrained.topic, handlers.on_model_trained),
        Route(VersionState.topic, handlers.on_version_state),
        *(Route(cls.topic, handlers.on_dead_letter) for cls in DEAD_LETTERS.values()),
        Route(DeadLetterSent.topic, handlers.on_dead_letter_sent),
    ]


def build(settings: MonitoringSettings, connect: EngineFactory) -> Service:
    """Monitoring, ready to run on the bus that `connect` reaches."""
    start_spans(NAME, settings)
    file = settings.data / NAME / f"{NAME}.db"
    database = Database(settings.database_url or sqlite_url(file.absolute()), MIGRATIONS, schema=NAME)
    unit = BatchUnitOfWork(database, settings.settle_s, repeat=settings.alert_repeat)
    loops = unit.handlers.loops
    reader = SqlMonitoringReader(database, LifetimeNames(loops))
    engine = connect(NAME)
    consumer = engine.consumer(skip_deleted_loops(NAME, loops, routes(unit.handlers)), unit_of_work=unit)
    silencing = Silencing(unit.handlers.alerting.store, loops, system_clock)
    api, edge = router(reader, loops, consumer.caught_up), CommandEdge(in_transaction(unit, engine))
    add_alerts(api, reader, loops, edge, silencing)
    add_objectives(api, reader, loops)
    registry = HttpRegistry(settings.registry_url, client_tls(settings)) if settings.registry_url else None
    sign_in, sessions = _signing_in(settings)
    trail = audit_trail(NAME, settings, engine.publish)
    api.include_router(console_router(has_provider=sign_in.provider is not None if sign_in else None))
    if sign_in and sessions:
        api.include_router(sign_in_router(sign_in, sessions, trail))
    api.include_router(session_router(sign_in, sessions, has_verdicts=registry is not None))
    api.include_router(verdict_router(registry, loops))
    ingest = HttpIngest(settings.ingest_url, client_tls(settings)) if settings.ingest_url else None
    token = settings.own_token()
    sending = LetterHandlers(
        unit.handlers.letters, loops, system_clock, ingest, lambda: token.header().get("authorization")
    )
    api.include_router(letter_router(SqlLetterReader(database, engine), sending, edge))
    delivery = _delivery(settings, database, unit, consumer.caught_up)
    return Service(
        name=NAME,
        settings=settings,
        endpoints=[HttpEndpoint(NAME, settings, api, trail=trail, sessions=sessions)],
        consumers=[consumer],
        resources=[database],
        background=[
            lambda: unit.relay_loop(engine),
            lambda: update_gauges(reader, loops, settings.gauges_every_s),
            lambda: unit.look_at_alerts(settings.alerts_every_s),
            *([delivery.run] if delivery else []),
        ],
        remarks=[delivery.remarks] if delivery else [],
    )


def _signing_in(settings: MonitoringSettings) -> tuple[SignInHandlers | None, BrowserSessions | None]:
    """How people sign in at the console, and their sessions; None where nobody has to."""
    if not settings.has_access_control:
        return None, None
    settings.check_sign_in()
    # Imported here, as many installations ask nobody.
    from everloop_shared.access.control import authenticator
    from everloop_shared.access.sessions import Sessions
    from everloop_shared.http.browser_sessions import BrowserSessions, StrictCookie

    handlers = SignInHandlers(authenticator(settings).identify, _provider(settings))
    url = urlsplit(settings.console_url)
    cookie = StrictCookie(f"everloop-{settings.port}", settings.tls_cert is not None or url.scheme == "https")
    origin = f"{url.scheme}://{url.netloc}" if url.netloc else ""
    return handlers, BrowserSessions(Sessions(settings.session_idle_s, settings.session_s), cookie, origin)


def _provider(settings: MonitoringSettings) -> SignInProvider | None:
    if not settings.auth_client_id:
        return None
    from everloop_monitoring.adapters.provider import OidcProvider, ProviderClient  # brings cryptography

    redirect_uri = f"{settings.console_url.rstrip('/')}/sign-in"
    id, scope, secret_file = settings.auth_client_id, settings.auth_client_scope, settings.auth_client_secret_file
    return OidcProvider(settings.provider(), ProviderClient(id, redirect_uri, scope, secret_file))


def _delivery(
    settings: MonitoringSettings, database: Database, unit: BatchUnitOfWork, caught_up: CaughtUp
) -> Delivery | None:
    """The job that tells receivers; None where the operator names none."""
    if settings.receivers is None:
        return None
    # Imported here, as many installations have no receivers: without an HTTP client monitoring starts sooner.
    from everloop_monitoring.adapters.receivers.config import read_receivers
    from everloop_monitoring.adapters.receivers.delivery import Delivery
    from everloop_monitoring.adapters.receivers.senders import make_sender

    specs = read_receivers(settings.receivers)
    senders = {spec.name: make_sender(spec, settings.alert_repeat) for spec in specs}
    url, gather_s = settings.console_url, settings.alert_gather_s
    told = unit.handlers.alerting.list_told
    return Delivery(specs, senders, database, unit, told, caught_up, url, gather_s)
