"""Run monitoring: `python -m everloop_monitoring`."""

from __future__ import annotations

from everloop_monitoring.app import NAME, build
from everloop_monitoring.settings import MonitoringSettings
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.process import run
from everloop_shared.service import Service


def main() -> Service:
    """The service as the environment describes it."""
    settings = MonitoringSettings.load(NAME)
    return build(settings, kafka_factory(settings))


if __name__ == "__main__":
    run(main)
