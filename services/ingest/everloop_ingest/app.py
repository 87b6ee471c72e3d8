"""The composition root: settings and an engine become the ingest service."""

from __future__ import annotations

from everloop_features.times import TimeLimits
from everloop_ingest.adapters.no_sources import NoSources
from everloop_ingest.api import IngestApi, router
from everloop_ingest.domain.sources.mapping import SourceLimits
from everloop_ingest.handlers import Handlers, Sealing
from everloop_ingest.metrics import LOOPS
from everloop_ingest.ports import SourcesFactory
from everloop_ingest.settings import IngestSettings
from everloop_learning.loops import KnownLoops
from everloop_schemas.registry import LoopState
from everloop_shared.audit.trail import audit_trail
from everloop_shared.clock import Clock, system_clock
from everloop_shared.http import HttpEndpoint
from everloop_shared.messaging.routes import EngineFactory, Route
from everloop_shared.personal import Vault
from everloop_shared.service import Service
from everloop_shared.spans.started import start_spans


def build(
    settings: IngestSettings,
    connect: EngineFactory,
    clock: Clock = system_clock,
    read_sources: SourcesFactory = NoSources,
) -> Service:
    """The service. It stores nothing, and only keeps the state of every loop in memory."""
    start_spans("ingest", settings)
    loops = KnownLoops()
    LOOPS.set_function(lambda: len(loops.all()))
    times = TimeLimits(settings.earliest_time, settings.max_future_s)
    engine = connect("ingest")
    vault = Vault(settings.personal_keys_url, settings.personal_master_key)
    sealing = Sealing(loops, vault)
    sources = read_sources(loops, sealing, engine, SourceLimits(times, settings.max_event_bytes), clock)
    handlers = Handlers(loops, sealing, clock, settings.max_event_bytes, times, on_loop_change=sources.loops_changed)
    consumer = engine.consumer([Route(LoopState.topic, handlers.on_loop_state, broadcast=True)])
    trail = audit_trail("ingest", settings, engine.publish)
    http = HttpEndpoint("ingest", settings, router(IngestApi(handlers, engine, settings), sources), trail=trail)
    return Service(
        name="ingest",
        settings=settings,
        endpoints=[http],
        consumers=[consumer],
        resources=[vault],
        background=[sources.run],
        remarks=[sources.problems],
    )
