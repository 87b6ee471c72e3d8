"""The cluster that a backup reads or a restore fills: a named one, the running installation's, or Kafka at hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from everloop.backup.settings import BackupSettings
from everloop.local import folder_lock, launch
from everloop.local.discovery import find_installation
from everloop.local.errors import InstallationRunsAlready
from everloop.local.kafka import start_broker
from everloop.local.secured_kafka import security_of


@asynccontextmanager
async def cluster_to_read(folder: Path, data: str | None, kafka: str | None) -> AsyncIterator[BackupSettings]:
    """The cluster of the installation; when it is stopped, its broker runs for the time of the backup."""
    if kafka is None and folder_lock.holder(folder) is None and (folder / "kafka" / "data").exists():
        async with _kafka_at_hand(folder) as settings:
            yield settings
        return
    installation = None if kafka else find_installation(data)
    bootstrap = kafka or (installation.kafka() if installation else "")
    config = installation.kafka_config if installation else None
    await launch.check_cluster(bootstrap, config)
    yield BackupSettings.of(folder, bootstrap, config)


@asynccontextmanager
async def cluster_to_fill(folder: Path, kafka: str | None) -> AsyncIterator[BackupSettings]:
    """The cluster of an installation that does not run; its folder is locked, so that no `everloop up` starts in it."""
    if kafka is None:
        async with _kafka_at_hand(folder) as settings:
            yield settings
        return
    await launch.check_cluster(kafka)
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock.hold(folder):
        yield BackupSettings.of(folder, kafka)


@asynccontextmanager
async def _kafka_at_hand(folder: Path) -> AsyncIterator[BackupSettings]:
    if folder_lock.holder(folder) is not None:
        fix = f"Stop it first: everloop down --data {folder}"
        raise InstallationRunsAlready(f"The local installation at {folder} is running.", fix)
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock.hold(folder):
        broker = await start_broker(folder, security=security_of(folder))
        try:
            yield BackupSettings.of(folder, broker.bootstrap, broker.setup.client)
        finally:
            await asyncio.shield(broker.stop())
