"""The commands about signatures: make keys, trust them for something, revoke them, adopt what is not signed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from everloop.cli.output import Data, Json
from everloop.extras import require_local
from everloop_shared.signing.uses import USES

KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The new key file; it must not exist yet.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="A key file, or a public key as `create` prints it.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")]
Trusted = Annotated[
    Path | None,
    typer.Option("--trusted", metavar="FILE", help="The file of trusted keys. Default: EVERLOOP_TRUSTED_KEYS."),
]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Whose key it is, for people.")]
Signs = Annotated[str, typer.Option("--signs", metavar="A,B", help=f"What it may sign: {', '.join(USES)}.")]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Its signatures count since then, RFC 3339.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Its signatures before then count.")]
RevokedFrom = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="Signatures made since then do not count. Default: now.")
]
RevokedAll = Annotated[bool, typer.Option("--all", help="No signature of it counts: the key was stolen.")]


def register(app: typer.Typer) -> None:
    """Mount `signing create`, `list`, `trust`, `revoke` and `adopt`."""
    signing = typer.Typer(
        no_args_is_help=True, help="Signatures of models, decisions and backups: keys, and which of them are trusted."
    )
    signing.callback()(_signing)
    signing.command("create", epilog="Example: everloop signing create /etc/everloop/training.key")(create)
    signing.command("list", epilog="Example: everloop signing list --trusted /etc/everloop/trusted.json")(list_keys)
    example = "Example: everloop signing trust training.key --signs artifacts,snapshots --name training"
    signing.command("trust", epilog=example)(trust)
    signing.command("revoke", epilog="Example: everloop signing revoke 3f0c9a1b22d4e5f6 --all")(revoke)
    signing.command("adopt", epilog="Example: everloop signing adopt --trusted /etc/everloop/trusted.json")(adopt)
    app.add_typer(signing, name="signing")


def _signing() -> None:
    pass


def create(file: KeyFile, as_json: Json = False) -> None:
    """Make a key (Ed25519) in a file that only you can read; name it in EVERLOOP_SIGNING_KEY."""
    _trusting("create").create(file, as_json)


def list_keys(trusted: Trusted = None, as_json: Json = False) -> None:
    """List the trusted keys: what they may sign, from when to when, and whether they are revoked."""
    _trusting("list").list_keys(trusted, as_json)


def trust(
    key: Key,
    signs: Signs,
    name: Name = "",
    since: From = None,
    until: Until = None,
    trusted: Trusted = None,
    as_json: Json = False,
) -> None:
    """Trust a key, or change what it is trusted for; running services read the file again."""
    _trusting("trust").trust(key, signs, name, since, until, trusted, as_json)


def revoke(
    key: KeyId, since: RevokedFrom = None, every: RevokedAll = False, trusted: Trusted = None, as_json: Json = False
) -> None:
    """Revoke a key from now on, from a time on, or for everything that it ever signed."""
    _trusting("revoke").revoke(key, since, every, trusted, as_json)


def adopt(trusted: Trusted = None, data: Data = None, as_json: Json = False) -> None:
    """Trust the artifacts in the store and the decisions of all loops as they are now, whoever signed them.

    For an installation that has just begun to sign, and after a key was revoked for all its signatures.
    """
    _trusting("adopt").adopt(trusted, data, as_json)


def _trusting(command: str) -> ModuleType:
    """What the commands do, which takes libraries that the light installation does without."""
    require_local(f"everloop signing {command}")
    from everloop.cli import trusting

    return trusting
