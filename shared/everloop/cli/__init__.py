"""The `everloop` program: the commands about loops, data, local installations and backups."""

from __future__ import annotations

import os
from typing import Annotated

import typer

import everloop
from everloop.acls import commands as acls
from everloop.backup import commands as backup
from everloop.certs import commands as certs
from everloop.cli import (
    access,
    alerts,
    approvals,
    archive,
    audit,
    backfill,
    commands,
    data,
    data_sets,
    diff,
    explain_decision,
    letters,
    lineage,
    models,
    personal,
    personal_keys,
    quotas,
    rebuild,
    replay,
    reports,
    searches,
    signing,
    watch,
)
from everloop.cli.output import describe_exits
from everloop.demo import commands as demo
from everloop.local import commands as local
from everloop.postgres import commands as postgres
from everloop.secured import commands as secured
from everloop_shared.settings import PRIVATE_UMASK


def build() -> typer.Typer:
    """The whole program."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Keep production models fresh: loops of events, predictions, labels and models on Kafka.",
    )
    app.callback()(_everloop)
    for module in (
        commands,
        diff,
        approvals,
        watch,
        alerts,
        data,
        data_sets,
        models,
        searches,
        lineage,
        letters,
        reports,
        rebuild,
        explain_decision,
        audit,
        personal,
        personal_keys,
        replay,
        backfill,
        archive,
        local,
        demo,
        backup,
        certs,
        access,
        quotas,
        acls,
        postgres,
        signing,
        secured,
    ):
        module.register(app)
    describe_exits(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"everloop {everloop.__version__}")
        raise typer.Exit


def _everloop(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point. Only the user can read the files that a command writes."""
    os.umask(PRIVATE_UMASK)
    build()(prog_name="everloop")
