"""The clusters of the backup tests."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from tests.everloop.backup.prefixed_cluster import PARTITIONS, MakeCluster, PrefixedCluster

from everloop.backup.settings import BackupSettings
from everloop.local.kafka import Broker


@pytest.fixture
def cluster_named(kafka: Broker, tmp_path: Path) -> MakeCluster:
    """Makes clusters by name."""
    run = uuid4().hex[:8]

    def make(name: str) -> PrefixedCluster:
        return PrefixedCluster(
            BackupSettings(
                data=tmp_path / name,
                kafka_bootstrap=kafka.bootstrap,
                topic_prefix=f"{name}-{run}.",
                partitions=PARTITIONS,
            )
        )

    return make
