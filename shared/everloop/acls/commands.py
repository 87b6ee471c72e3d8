"""The commands `acls show` and `acls apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everloop.acls.bindings import Binding, changes, principal, wanted_bindings
from everloop.cli.output import Data, Json, print_json, print_result
from everloop.extras import require_local, require_module
from everloop_schemas.topology import SERVICES

Kafka = Annotated[
    str | None, typer.Option("--kafka", metavar="HOST:PORT", help="The cluster. Default: that of the installation.")
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Client settings of who may do this. Default: EVERLOOP_KAFKA_CONFIG."
    ),
]
Users = Annotated[
    str, typer.Option("--user-prefix", metavar="TEXT", help="What the names of the services' users begin with.")
]
Sources = Annotated[
    list[str] | None,
    typer.Option("--source", metavar="TOPIC", help="A topic of users that ingest reads; may be repeated."),
]
Prune = Annotated[bool, typer.Option("--prune", help="Also remove what the services do not need.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be changed.")]


def register(app: typer.Typer) -> None:
    """Mount `acls`."""
    acls = typer.Typer(no_args_is_help=True, help="Kafka's access control lists: one user for each service.")
    acls.command("show", epilog="Example: everloop acls show")(show)
    acls.command("apply", epilog="Example: everloop acls apply --kafka kafka:9092 --config admin.json --prune")(apply)
    app.add_typer(acls, name="acls")


def show(users: Users = "", sources: Sources = None, as_json: Json = False) -> None:
    """Show what each service may do: what its code needs, and nothing more."""
    wanted = wanted_bindings(_topic_prefix(), users, sources or [])
    if as_json:
        print_json([binding._asdict() for binding in wanted])
    else:
        print_result(*map(str, wanted))


def apply(
    data: Data = None,
    kafka: Kafka = None,
    config: Config = None,
    users: Users = "",
    sources: Sources = None,
    prune: Prune = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Allow each service what it needs on the cluster. Applying it again changes nothing."""
    require_local("everloop acls apply")
    require_module("everloop acls apply", "confluent_kafka", "pip install 'everloop[acls]'")
    from everloop.acls.applying import open_lists

    lists = open_lists(data, kafka, config)
    found = changes(
        wanted_bindings(_topic_prefix(), users, sources or []),
        lists.of(principal(service, users) for service in SERVICES),
    )
    removed = found.unneeded if prune else []
    if not dry_run:
        lists.create(found.missing)
        lists.delete(removed)
    if as_json:
        print_json({"allowed": _plain(found.missing), "removed": _plain(removed), "unneeded": _plain(found.unneeded)})
        return
    said = "would be " if dry_run else ""
    print_result(*(f"+ {binding}" for binding in found.missing), *(f"- {binding}" for binding in removed))
    print_result(f"{len(found.missing)} {said}allowed, {len(removed)} {said}removed")
    if found.unneeded and not prune:
        print_result(f"{len(found.unneeded)} are not needed; --prune removes them", *map(str, found.unneeded))


def _plain(bindings: list[Binding]) -> list[dict[str, str]]:
    return [binding._asdict() for binding in bindings]


def _topic_prefix() -> str:
    from everloop_shared.settings import Settings

    return Settings.load("acls").topic_prefix
