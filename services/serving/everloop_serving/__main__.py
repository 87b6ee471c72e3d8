"""Runs serving as a process: `python -m everloop_serving`."""

from __future__ import annotations

from everloop_serving.app import build
from everloop_serving.settings import ServingSettings
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.process import run
from everloop_shared.service import Service


def _build() -> Service:
    settings = ServingSettings.load("serving")
    return build(settings, kafka_factory(settings))


if __name__ == "__main__":
    run(_build)
