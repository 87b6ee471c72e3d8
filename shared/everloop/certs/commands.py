"""The command `certs`."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated

import typer

from everloop.cli.output import Json, print_json, print_result
from everloop.extras import require_local

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder; it may have certificates already.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="NAME", help="A further name or address of the services; may be repeated."),
]
Clients = Annotated[
    list[str] | None, typer.Option("--client", metavar="NAME", help="A further client; may be repeated.")
]
Days = Annotated[int, typer.Option("--days", min=1, max=825, help="How long certificates are valid.")]
Renew = Annotated[bool, typer.Option("--renew", help="Make all certificates again, by the same authority.")]
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*")
_CLIENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")


def register(app: typer.Typer) -> None:
    """Mount `certs`."""
    app.command("certs", epilog="Example: everloop certs /etc/everloop/certs --host everloop.example")(certs)


def certs(
    folder: Folder,
    hosts: Hosts = None,
    clients: Clients = None,
    days: Days = 90,
    renew: Renew = False,
    as_json: Json = False,
) -> None:
    """Make an authority and certificates for services, Kafka, PostgreSQL and clients, or renew those that are due.

    Run it again as often as you like, for example weekly: services use renewed files without a restart.
    """
    check_names(hosts or [], clients or [])
    require_local("everloop certs")
    from everloop.certs.folder import ensure_certificates

    found = ensure_certificates(
        folder.expanduser().absolute(), hosts=hosts or [], clients=clients or [], days=days, renew=renew
    )
    if as_json:
        print_json(
            [
                {
                    "name": each.name,
                    "hosts": each.hosts,
                    "valid_until": each.valid_until.isoformat(),
                    "done": each.done,
                    "certificate": str(each.certificate),
                    "key": str(each.key),
                }
                for each in found
            ]
        )
        return
    width = max(len(each.name) for each in found)
    for each in found:
        names = ", ".join(each.hosts) or ("signs the others" if each.name == "ca" else "client")
        print_result(f"{each.name:<{width}}  {each.done:<7}  until {each.valid_until:%Y-%m-%d}  {names}")


def check_names(hosts: list[str], clients: list[str]) -> None:
    """Raise BadParameter for what can be neither a host nor a client."""
    for host in hosts:
        if not _is_address(host) and (len(host) > 253 or not _HOST.fullmatch(host)):
            raise typer.BadParameter(f"{host!r} is neither a host name nor an address", param_hint="--host")
    for client in clients:
        if not _CLIENT.fullmatch(client):
            raise typer.BadParameter(f"{client!r}: use a-z, 0-9, - and _, at most 60", param_hint="--client")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
