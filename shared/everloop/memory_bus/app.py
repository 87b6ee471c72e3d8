"""Builds the six services on one broker and runs them in one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path

import everloop_feature.app
import everloop_ingest.app
import everloop_monitoring.app
import everloop_registry.app
import everloop_serving.app
import everloop_training.app
from everloop.memory_bus.api import router
from everloop.memory_bus.broker import BoundedBroker
from everloop.memory_bus.settings import MemorySettings, environment_of
from everloop_feature.settings import FeatureSettings
from everloop_ingest.settings import IngestSettings
from everloop_monitoring.settings import MonitoringSettings
from everloop_registry.settings import RegistrySettings
from everloop_serving.settings import ServingSettings
from everloop_shared.http import HttpEndpoint
from everloop_shared.logging import configure_logging
from everloop_shared.process import DRAIN_S
from everloop_shared.service import Service
from everloop_shared.settings import Settings
from everloop_shared.signing import trust_of
from everloop_training.settings import TrainingSettings

POLL_EVERY_S = 0.01
_current_service: ContextVar[str] = ContextVar("everloop_memory_bus_service", default="memory")


def build(folder: Path, ports: Mapping[str, int], environ: Mapping[str, str], grpc_port: int = 0) -> list[Service]:
    """The endpoint of the topics and the six services, all on one broker. Raises Misconfigured."""
    own = MemorySettings.load("memory", environ)
    broker = BoundedBroker(own.partitions, own.max_log_bytes, trust_of(own))
    env = environment_of(environ, folder, ports, own.partitions, grpc_port)
    connect = broker.engine
    return [
        _topics_service(Settings.load("topics", env), broker),
        everloop_registry.app.build(RegistrySettings.load("registry", env), connect),
        everloop_ingest.app.build(IngestSettings.load("ingest", env), connect),
        everloop_feature.app.build(FeatureSettings.load("feature", env), connect),
        everloop_serving.app.build(ServingSettings.load("serving", env), connect),
        everloop_training.app.build(TrainingSettings.load("training", env), connect),
        everloop_monitoring.app.build(MonitoringSettings.load("monitoring", env), connect),
    ]


def _topics_service(settings: Settings, broker: BoundedBroker) -> Service:
    return Service("topics", settings, [HttpEndpoint("topics", settings, router(broker))])


async def run(services: Sequence[Service], stop: asyncio.Event) -> None:
    """Run them until `stop` is set or one fails, which ends all; raises the first error."""
    running: list[asyncio.Task[None]] = []
    for service in services:  # one after the other: Alembic migrates one database at a time in a process
        running.append(asyncio.create_task(_run(service, stop)))
        while service.not_ready() == "starting" and not _any_done(running):
            await asyncio.sleep(POLL_EVERY_S)
        if _any_done(running):
            break
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    first = next(task for task in running if task.done())
    stop.set()
    _, late = await asyncio.wait(running, timeout=DRAIN_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    first.result()


def _any_done(tasks: Sequence[asyncio.Task[None]]) -> bool:
    return any(task.done() for task in tasks)


async def _run(service: Service, stop: asyncio.Event) -> None:
    _current_service.set(service.name)  # the tasks of the service inherit it, those of its requests too
    await service.run(stop)


def configure_logs(services: Sequence[Service], level: str) -> None:
    """One log for all, each line with the name of its service."""
    configure_logging("memory", level)
    for service in services:
        logging.getLogger(f"everloop_{service.name}").setLevel(service.settings.log_level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_add_service_name)


def _add_service_name(record: logging.LogRecord) -> bool:
    record.service = _current_service.get()
    return True
