"""Which cluster a backup reads or a restore fills: a named one, that of the running house, or the broker at hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from everloop.backup.settings import BackupSettings
from everloop.house import claim, launch
from everloop.house.directory import find_house
from everloop.house.errors import HouseNotFound, HouseRunsAlready
from everloop.house.kafka import start_broker


@asynccontextmanager
async def to_read(folder: Path, data: str | None, kafka: str | None) -> AsyncIterator[BackupSettings]:
    """The cluster of the house: while it runs beside it, and when it is stopped with its broker started for now."""
    if kafka is None and claim.holder(folder) is None and (folder / "kafka" / "data").exists():
        async with _at_hand(folder) as settings:
            yield settings
        return
    bootstrap = kafka or find_house(data).kafka()
    await launch.check_cluster(bootstrap)
    yield BackupSettings.of(folder, bootstrap)


@asynccontextmanager
async def to_fill(folder: Path, kafka: str | None) -> AsyncIterator[BackupSettings]:
    """The cluster of a house that does not run yet; its folder is held meanwhile, so that none can start in it."""
    if kafka is None:
        async with _at_hand(folder) as settings:
            yield settings
        return
    await launch.check_cluster(kafka)
    folder.mkdir(parents=True, exist_ok=True)
    with claim.claimed(folder):
        yield BackupSettings.of(folder, kafka)


@asynccontextmanager
async def _at_hand(folder: Path) -> AsyncIterator[BackupSettings]:
    if claim.holder(folder) is not None:
        raise HouseRunsAlready(f"The house at {folder} runs.", f"Stop it first: everloop down --data {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    with claim.claimed(folder):
        broker = await start_broker(folder)
        try:
            yield BackupSettings.of(folder, broker.bootstrap)
        finally:
            await asyncio.shield(broker.stop())


__all__ = ["HouseNotFound", "to_fill", "to_read"]
