"""Runs training as a process: `python -m everloop_training`."""

from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.process import run
from everloop_shared.service import Service
from everloop_training.app import build
from everloop_training.settings import TrainingSettings


def _build() -> Service:
    settings = TrainingSettings.load("training")
    return build(settings, kafka_factory(settings))


if __name__ == "__main__":
    run(_build)
