"""The feature service with its keyed state in memory, for comparison: `python -m tests.bench.state_in_memory`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from everloop_feature.app import build
from everloop_feature.settings import FeatureSettings
from everloop_shared.messaging.faust import keyed_group
from everloop_shared.messaging.faust.consumer import faust_keyed
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.keyed.storage import MemoryStorage
from everloop_shared.process import run
from everloop_shared.service import Service


class NoDisk(MemoryStorage):
    """Takes the place of the database."""

    failure, corrupt = None, False

    def __init__(self, folder: Path, layout: str) -> None:
        super().__init__()

    def open(self) -> None:
        """Nothing to open."""

    def load(self, many: bool) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to close."""


def _build() -> Service:
    module: Any = keyed_group
    module.DiskStorage = NoDisk
    settings = FeatureSettings.load("feature")
    return build(settings, kafka_factory(settings), faust_keyed(settings))


if __name__ == "__main__":
    run(_build)
