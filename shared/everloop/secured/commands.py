"""The command `secure`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from everloop.certs.commands import Hosts, check_names
from everloop.cli.output import Json, print_json, print_result
from everloop.extras import require_local

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder; it may have everything already.")]
Tar = Annotated[
    bool, typer.Option("--tar", help="Write the files of the containers to standard output, as a tar; make nothing.")
]


def register(app: typer.Typer) -> None:
    """Mount `secure`."""
    app.command("secure", epilog="Example: everloop secure .secured --host everloop.example")(secure)


def secure(folder: Folder, hosts: Hosts = None, tar: Tar = False, as_json: Json = False) -> None:
    """Make certificates, keys, passwords and trusted keys for a secured installation in containers: `make secure`.

    What is there is kept; certificates that are due are renewed. Run it again as often as you like.
    """
    check_names(hosts or [], [])
    require_local("everloop secure")
    from everloop.secured.container_files import write_tar
    from everloop.secured.folder import ensure_secured

    where = folder.expanduser().absolute()
    if tar:
        write_tar(where, sys.stdout.buffer)
        return
    done = ensure_secured(where, hosts or [])
    if as_json:
        print_json({"folder": str(where), "done": done})
    else:
        print_result(*done, f"{where} is complete. For the command here: export EVERLOOP_DATA={where}")
