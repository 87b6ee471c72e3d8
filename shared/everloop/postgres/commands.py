"""The command `postgres-roles`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from everloop.cli.output import print_result, print_stderr
from everloop.postgres.roles import OWNERS, PERSONAL, ensure_password, role_of, roles_sql, scram_verifier

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the passwords, SERVICE.pgpass, made once.")]
Only = Annotated[
    str | None,
    typer.Option(
        "--service",
        metavar="SERVICE",
        help="Of this service only, where each has a database of its own; personal: of the keys of personal fields.",
    ),
]
Users = Annotated[str, typer.Option("--user-prefix", metavar="TEXT", help="What the names of the roles begin with.")]


def register(app: typer.Typer) -> None:
    """Mount `postgres-roles`."""
    app.command("postgres-roles", epilog="Example: everloop postgres-roles /etc/everloop/postgres | psql -d everloop")(
        postgres_roles
    )


def postgres_roles(folder: Folder, service: Only = None, users: Users = "everloop_") -> None:
    """Print the SQL that gives each service with a database a role that owns its schema, and nothing else.

    The passwords stay in the files; the SQL has what PostgreSQL keeps of them. Run it again whenever you like.
    """
    if service is not None and service not in (*OWNERS, PERSONAL):
        fix = f"{' and '.join(OWNERS)} do; {PERSONAL} is the database of the keys of personal fields"
        raise typer.BadParameter(f"{service!r} owns no database; {fix}", param_hint="--service")
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,30}|", users):
        raise typer.BadParameter(f"{users!r}: use a-z, 0-9 and _, at most 31", param_hint="--user-prefix")
    where = folder.expanduser().absolute()
    for name in [service] if service else OWNERS:
        role = role_of(name, users)
        verifier = scram_verifier(ensure_password(where, name, role))
        print_result(roles_sql(name, role, verifier))
        setting = "KEYS_URL" if name == PERSONAL else "DATABASE_URL"
        print_stderr(
            f"EVERLOOP_{name.upper()}_{setting}=postgresql://{role}@HOST:5432/DATABASE"
            f"?sslmode=verify-full&sslrootcert=ca.pem&passfile={where / name}.pgpass"
        )
