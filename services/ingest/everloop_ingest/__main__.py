"""Runs ingest as a process: `python -m everloop_ingest`."""

from everloop_ingest.adapters.sources import kafka_sources
from everloop_ingest.app import build
from everloop_ingest.settings import IngestSettings
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.process import run
from everloop_shared.service import Service


def _build() -> Service:
    settings = IngestSettings.load("ingest")
    return build(settings, kafka_factory(settings), read_sources=kafka_sources(settings))


if __name__ == "__main__":
    run(_build)
