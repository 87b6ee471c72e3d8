"""Runs feature as a process: `python -m everloop_feature`."""

from everloop_feature.app import build
from everloop_feature.settings import FeatureSettings
from everloop_shared.messaging.faust.consumer import faust_keyed
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.process import run
from everloop_shared.service import Service


def _build() -> Service:
    settings = FeatureSettings.load("feature")
    return build(settings, kafka_factory(settings), faust_keyed(settings))


if __name__ == "__main__":
    run(_build)
