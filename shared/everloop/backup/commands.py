"""The commands `backup` and `restore`."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from everloop.backup import cluster, restore, save
from everloop.backup.manifest import Manifest
from everloop.backup.progress import Meter
from everloop.backup.settings import BackupSettings
from everloop.cli import output
from everloop.local.discovery import data_folder
from everloop.local.errors import InstallationError
from everloop_shared.errors import Misconfigured

T = TypeVar("T")
Kafka = Annotated[
    str | None, typer.Option("--kafka", metavar="HOST:PORT", help="The cluster. Default: the installation's own.")
]
Target = Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the backup; it must not exist yet.")]
Source = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `everloop backup` wrote.")]


def register(app: typer.Typer) -> None:
    """Mount `backup` and `restore`."""
    app.command("backup", epilog="Example: everloop backup /mnt/backups/monday")(backup)
    app.command("restore", epilog="Example: everloop restore /mnt/backups/monday --data /srv/everloop")(restored)


def backup(target: Target, data: output.Data = None, kafka: Kafka = None, as_json: output.Json = False) -> None:
    """Save decisions, outcomes, training events, artifacts and snapshots. The services may be running."""
    target, folder = target.expanduser().absolute(), data_folder(data)
    save.check_target(target)

    async def work() -> Manifest:
        async with cluster.to_read(folder, data, kafka or _named(data)) as settings:
            with Meter() as meter:
                return await save.back_up(settings, target, meter)

    _tell(_run(work()), f"The backup is in {target}", target, as_json)


def restored(source: Source, data: output.Data = None, kafka: Kafka = None, as_json: output.Json = False) -> None:
    """Restore a backup into an empty folder and an empty cluster (default: Kafka at hand); then run everloop up."""
    source, folder = source.expanduser().absolute(), data_folder(data)
    at = kafka or _named(data)

    async def work() -> Manifest:
        with Meter() as meter:
            restore.check_folder(folder)
            whole = restore.check_backup(source, BackupSettings.load("training").partitions, meter)
            try:
                async with cluster.to_fill(folder, at) as settings:
                    await restore.put_back(settings, source, whole, meter)
            except BaseException:
                if at is None:
                    shutil.rmtree(folder / "kafka", ignore_errors=True)
                raise
        return whole

    whole = _run(work())
    _tell(whole, f"The backup of {whole.made:%Y-%m-%d %H:%M} UTC is restored to {folder}", folder, as_json)


def _named(data: str | None) -> str | None:
    """The cluster that the environment names; a folder named by hand goes before it."""
    return None if data else os.environ.get("EVERLOOP_KAFKA_BOOTSTRAP") or None


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, or until Ctrl-C or SIGTERM: then it cleans up and ends as interrupted."""

    async def interruptible() -> T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    try:
        return asyncio.run(interruptible())
    except Misconfigured as e:
        raise InstallationError(e.detail) from e


def _tell(whole: Manifest, what: str, folder: Path, as_json: bool) -> None:
    counts = {log.name: sum(part.records for part in log.partitions) for log in whole.topics}
    size = sum(file.bytes for file in whole.files())
    if as_json:
        output.result(
            {
                "folder": str(folder),
                "made": whole.made.isoformat(),
                "records": counts,
                "artifacts": len(whole.artifacts),
                "artifacts_missing": len(whole.missing),
                "snapshots": len(whole.snapshots),
                "bytes": size,
            }
        )
        return
    parts = f"{sum(counts.values()):,} records of {len(counts)} topics, {len(whole.artifacts):,} artifacts"
    output.show(f"{what}: {parts}, {len(whole.snapshots)} snapshots, {size / 1e6:,.1f} MB.")
