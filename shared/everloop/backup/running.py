"""Runs a backup or a restore for its command, and reports the result."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from everloop.backup import cluster, save
from everloop.backup import restore as restoring
from everloop.backup.manifest import BackupManifest
from everloop.backup.progress import BackupProgress
from everloop.backup.settings import BackupSettings
from everloop.cli import output
from everloop.local.discovery import data_folder
from everloop.local.errors import InstallationError
from everloop_shared.errors import Misconfigured
from everloop_shared.signing import trust_of

T = TypeVar("T")


def backup(target: Path, data: str | None, kafka: str | None, *, as_json: bool) -> None:
    """Back up to `target`. Raises InstallationError."""
    folder = data_folder(data)
    save.check_target(target)

    async def work() -> BackupManifest:
        async with cluster.cluster_to_read(folder, data, kafka or _cluster_of_environment(data)) as settings:
            with BackupProgress() as progress:
                return await save.back_up(settings, target, progress)

    _report(_run(work()), f"The backup is in {target}", target, as_json)


def restore(source: Path, data: str | None, kafka: str | None, *, as_json: bool) -> None:
    """Restore the backup in `source`. Raises InstallationError."""
    folder = data_folder(data)
    named = kafka or _cluster_of_environment(data)

    async def work() -> BackupManifest:
        with BackupProgress() as progress:
            restoring.check_folder(folder)
            settings = BackupSettings.load("training")
            manifest = restoring.check_backup(source, settings.partitions, progress, trust_of(settings))
            try:
                async with cluster.cluster_to_fill(folder, named) as filled:
                    await restoring.restore(filled, source, manifest, progress)
            except BaseException:
                if named is None:
                    shutil.rmtree(folder / "kafka", ignore_errors=True)
                raise
        return manifest

    manifest = _run(work())
    what = f"The backup of {manifest.made:%Y-%m-%d %H:%M} UTC is restored to {folder}"
    _report(manifest, what, folder, as_json)
    if manifest.personal or manifest.lacks_keys_of:
        output.print_stderr(about_persons(manifest))


def about_persons(manifest: BackupManifest) -> str:
    """What a person has to do for those whose values are sealed."""
    erased = f"Erasures after {manifest.made:%Y-%m-%d %H:%M} UTC are not in it: erase these persons again."
    if manifest.personal is None:
        loops = ", ".join(manifest.lacks_keys_of)
        return f"{erased} Restore the database of personal keys of {loops} too: the backup lacks it."
    masters = ", ".join(manifest.personal.masters)
    key = "EVERLOOP_PERSONAL_MASTER_KEY, or personal/master.key in the folder"
    return f"{erased} The keys need the master key {masters}: give its file by {key}, before the services start."


def _cluster_of_environment(data: str | None) -> str | None:
    """The cluster that the environment names; None where the caller names the folder, which comes first."""
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


def _report(manifest: BackupManifest, what: str, folder: Path, as_json: bool) -> None:
    counts = {log.name: sum(part.records for part in log.partitions) for log in manifest.topics}
    size = sum(file.bytes for file in manifest.files())
    if as_json:
        output.print_json(
            {
                "folder": str(folder),
                "made": manifest.made.isoformat(),
                "records": counts,
                "artifacts": len(manifest.artifacts),
                "artifacts_missing": len(manifest.missing),
                "snapshots": len(manifest.snapshots),
                "personal_keys": manifest.personal.keys if manifest.personal else 0,
                "personal_keys_missing": manifest.lacks_keys_of,
                "bytes": size,
            }
        )
        return
    parts = f"{sum(counts.values()):,} records of {len(counts)} topics, {len(manifest.artifacts):,} artifacts"
    output.print_result(f"{what}: {parts}, {len(manifest.snapshots)} snapshots, {size / 1e6:,.1f} MB.")
