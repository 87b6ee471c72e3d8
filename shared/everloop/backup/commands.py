"""The commands `backup` and `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everloop.cli.output import Data, Json
from everloop.extras import require_local

Kafka = Annotated[
    str | None, typer.Option("--kafka", metavar="HOST:PORT", help="The cluster. Default: that of the installation.")
]
Target = Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the backup; it must not exist yet.")]
Source = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `everloop backup` wrote.")]


def register(app: typer.Typer) -> None:
    """Mount `backup` and `restore`."""
    app.command("backup", epilog="Example: everloop backup /mnt/backups/monday")(backup)
    app.command("restore", epilog="Example: everloop restore /mnt/backups/monday --data /srv/everloop")(restore)


def backup(target: Target, data: Data = None, kafka: Kafka = None, as_json: Json = False) -> None:
    """Save decisions, outcomes, training events, artifacts and snapshots. The services may be running."""
    require_local("everloop backup")
    from everloop.backup import running

    running.backup(target.expanduser().absolute(), data, kafka, as_json=as_json)


def restore(source: Source, data: Data = None, kafka: Kafka = None, as_json: Json = False) -> None:
    """Restore a backup into an empty folder and an empty cluster (default: Kafka at hand); then run everloop up."""
    require_local("everloop restore")
    from everloop.backup import running

    running.restore(source.expanduser().absolute(), data, kafka, as_json=as_json)
