"""Runs serving as a process, or as several behind one port: `python -m everloop_serving`."""

from __future__ import annotations

from everloop_serving.app import build
from everloop_serving.settings import ServingSettings
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.process import run, run_workers
from everloop_shared.service import Service
from everloop_shared.workers import Worker


def _build(worker: Worker | None = None) -> Service:
    settings = ServingSettings.load("serving")
    if worker is not None:
        settings = settings.of_worker(worker.number)
    return build(settings, kafka_factory(settings), worker=worker)


def _settings() -> ServingSettings | None:
    try:
        return ServingSettings.load("serving")
    except Misconfigured:
        return None  # `run` reports it


if __name__ == "__main__":
    settings = _settings()
    if settings is None or settings.workers == 1:
        run(_build)
    else:
        own_ports = {"GRPC_PORT": settings.grpc_port} if settings.grpc_port else {}
        run_workers("serving", settings, settings.workers, _build, own_ports)
