"""The commands about who may do what: `roles`, and `keys create | list | rotate | revoke`."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from everloop.cli.output import CommandFailed, Data, Json, print_json, print_result, print_stderr
from everloop.local.discovery import data_folder
from everloop.local.keys import FOLDER, KEYS
from everloop_schemas.access.roles import ACTIONS, ROLES, roles_for
from everloop_schemas.access.routes import GRPC, OPEN, OPEN_GRPC, OPEN_RULES, RULES
from everloop_shared.access.key_file import (
    GrantedRole,
    KeyFile,
    NewKey,
    StoredKey,
    change_key_file,
    make_key,
    read_key_file,
)
from everloop_shared.access.limits import Limits
from everloop_shared.access.teams import TEAM_PATTERN
from everloop_shared.clock import system_clock
from everloop_shared.errors import Misconfigured

Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="Who uses the key; events name it as their actor.")]
Prefix = Annotated[str, typer.Argument(metavar="PREFIX", help="The key, by its prefix: evl_0123456789 or 0123456789.")]
Role = Annotated[list[str], typer.Option("--role", metavar="ROLE", help=f"One of {', '.join(ROLES)}; may be repeated.")]
Loops = Annotated[
    list[str] | None,
    typer.Option("--loops", metavar="PATTERN", help="For loops of these names, such as 'churn-*'. Default: all."),
]
Lasts = Annotated[
    str | None,
    typer.Option("--expires", metavar="TIME", help="How long it is valid, such as 90d or 12h. Default: no end."),
]
Limited = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=NUMBER",
        help=f"In place of the installation's limits: {', '.join(Limits.model_fields)}; may be repeated.",
    ),
]
Team = Annotated[
    str | None,
    typer.Option("--team", metavar="NAME", help="Whose quotas count what it is used for. Default: none."),
]
Overlap = Annotated[
    str, typer.Option("--overlap", metavar="TIME", help="How long the old key stays valid, such as 1h.")
]
KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", help="The file of keys. Default: EVERLOOP_AUTH_KEYS, else DIR/access/keys.json."
    ),
]
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LASTS = re.compile(r"(\d{1,5})([mhd])")


def register(app: typer.Typer) -> None:
    """Mount `roles` and `keys`."""
    app.command("roles", epilog="Example: everloop roles --json")(roles)
    keys = typer.Typer(no_args_is_help=True, help="Keys: who may send requests where EVERLOOP_AUTH is on.")
    keys.command("create", epilog="Example: everloop keys create ci --role engineer --loops 'churn-*'")(create)
    keys.command("list", epilog="Example: everloop keys list")(list_keys)
    keys.command("rotate", epilog="Example: everloop keys rotate evl_0123456789 --overlap 1h")(rotate)
    keys.command("revoke", epilog="Example: everloop keys revoke evl_0123456789")(revoke)
    app.add_typer(keys, name="keys")


def roles(as_json: Json = False) -> None:
    """Print who may do what: the roles, the roles of each action, and the action of each route."""
    if as_json:
        print_json(matrix())
        return
    table = Table("action", *ROLES, title="Who may do what")
    for action in ACTIONS:
        table.add_row(action, *("yes" if role in roles_for(action) else "" for role in ROLES))
    routes = Table("service", "method", "path", "action", "for", title="What routes do")
    for row in matrix()["routes"]:
        routes.add_row(row["service"], row["method"], row["path"], row["action"], row["for"])
    print_result(table, routes, f"Without a token: {', '.join(open_routes())}")


def open_routes() -> list[str]:
    """What is answered to everybody: by path what every service has, by service what one has."""
    of_services = [f"{service} {method} {path}" for service, routes in OPEN_RULES.items() for method, path in routes]
    return [*OPEN, *OPEN_GRPC, *of_services]


def matrix() -> dict[str, Any]:
    """The matrix, for programs."""
    http = [
        {"service": service, "method": r.method, "path": r.path, "action": r.action, "for": r.reach.value}
        for service, rules in RULES.items()
        for r in rules
    ]
    grpc = [
        {"service": "serving", "method": "gRPC", "path": method, "action": action, "for": "the model of the message"}
        for method, action in GRPC.items()
    ]
    return {
        "roles": dict(ROLES),
        "actions": {action: list(roles_for(action)) for action in ACTIONS},
        "routes": [*http, *grpc],
        "open": open_routes(),
    }


def create(
    subject: Subject,
    role: Role,
    loops: Loops = None,
    expires: Lasts = None,
    limit: Limited = None,
    team: Team = None,
    file: KeysFile = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a key, and print its token: nobody can show it again. It works within a second."""
    now = system_clock()
    for name in role:
        if name not in ROLES:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(ROLES)}", param_hint="--role")
    granted = tuple(GrantedRole(role=name, loops=tuple(loops or ("*",))) for name in role)
    until = now + _duration(expires, "--expires") if expires else None
    if team is not None and not re.fullmatch(TEAM_PATTERN, team):
        raise typer.BadParameter(f"{team!r} is no name of a team, such as risk", param_hint="--team")
    key = make_key(subject, granted, now, expires=until, limits=_limits(limit), team=team)
    path = _file(file, data)
    _change(path, lambda before: before.model_copy(update={"keys": (*before.keys, key.stored)}))
    _show_token(key, path, as_json)


def list_keys(file: KeysFile = None, data: Data = None, as_json: Json = False) -> None:
    """List the keys, without their secrets."""
    path = _file(file, data)
    try:
        keys = read_key_file(path).keys
    except Misconfigured as e:
        raise CommandFailed(e.detail) from e
    shown = [_described(key) for key in keys]
    if as_json:
        print_json(shown)
        return
    table = Table("key", "subject", "team", "kind", "roles", "created", "expires", "state")
    for row in shown:
        granted = "; ".join(f"{g['role']} for {', '.join(g['loops'])}" for g in row["roles"])
        who, when = (row["subject"], row["team"] or "", row["kind"]), (row["created"], row["expires"] or "")
        table.add_row(row["key"], *who, granted, *when, row["state"])
    print_result(table)


def rotate(
    prefix: Prefix, overlap: Overlap = "1h", file: KeysFile = None, data: Data = None, as_json: Json = False
) -> None:
    """Make a key with the roles, limits and team of another, which stays valid while its users change over."""
    now, path, made = system_clock(), _file(file, data), list[NewKey]()
    ends = now + _duration(overlap, "--overlap")

    def change(before: KeyFile) -> KeyFile:
        old = _find(before, prefix)
        if why := old.ended(now):
            raise CommandFailed(f"the key evl_{old.prefix} is {why}; everloop keys create makes another")
        lasted = None if old.expires is None else now + (old.expires - old.created)
        same: dict[str, Any] = {"kind": old.kind, "limits": old.limits, "team": old.team}
        made.append(make_key(old.subject, old.roles, now, expires=lasted, **same))
        ending = old.model_copy(update={"expires": ends if old.expires is None else min(ends, old.expires)})
        kept = tuple(ending if key is old else key for key in before.keys)
        return before.model_copy(update={"keys": (*kept, made[0].stored)})

    _change(path, change)
    _show_token(made[0], path, as_json)


def revoke(prefix: Prefix, file: KeysFile = None, data: Data = None, as_json: Json = False) -> None:
    """End a key; services refuse it within a second."""
    now, found = system_clock(), list[StoredKey]()

    def change(before: KeyFile) -> KeyFile:
        old = _find(before, prefix)
        found.append(old if old.revoked else old.model_copy(update={"revoked": now}))
        return before.model_copy(update={"keys": tuple(found[0] if key is old else key for key in before.keys)})

    _change(_file(file, data), change)
    if as_json:
        print_json(_described(found[0]))
    else:
        print_result(f"evl_{found[0].prefix} of {found[0].subject} is revoked.")


def _file(given: Path | None, data: str | None) -> Path:
    named = given or (None if data else os.environ.get("EVERLOOP_AUTH_KEYS"))
    return Path(named).expanduser() if named else data_folder(data) / FOLDER / KEYS


def _change(path: Path, change: Any) -> None:
    try:
        change_key_file(path, change)
    except Misconfigured as e:
        raise CommandFailed(e.detail) from e
    except OSError as e:
        raise CommandFailed(f"{path} cannot be written: {e.strerror}") from e


def _find(keys: KeyFile, prefix: str) -> StoredKey:
    wanted = prefix.removeprefix("evl_").partition("_")[0]
    found = next((key for key in keys.keys if key.prefix == wanted), None)
    if found is None:
        raise CommandFailed(f"no key begins with evl_{wanted[:20]}; everloop keys list shows all")
    return found


def _duration(text: str, option: str) -> timedelta:
    found = _LASTS.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no time such as 30m, 12h or 90d", param_hint=option)
    return int(found[1]) * _UNITS[found[2]]


def _limits(given: list[str] | None) -> Limits | None:
    """The limits of a key; None where none are given, so that the installation's hold."""
    if not given:
        return None
    pairs = (one.partition("=") for one in given)
    try:
        return Limits.model_validate_strings({name: number for name, _, number in pairs})
    except ValidationError as e:
        first = e.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise typer.BadParameter(
            f"{name}: {first['msg']}; it is one of {', '.join(Limits.model_fields)}, =NUMBER", param_hint="--limit"
        ) from e


def _described(key: StoredKey) -> dict[str, Any]:
    return {
        "key": f"evl_{key.prefix}",
        "subject": key.subject,
        "team": key.team,
        "kind": key.kind,
        "roles": [granted.model_dump(mode="json") for granted in key.roles],
        "limits": key.limits.model_dump() if key.limits else None,
        "created": key.created.isoformat(),
        "expires": key.expires.isoformat() if key.expires else None,
        "state": key.ended(system_clock()) or "valid",
    }


def _show_token(key: NewKey, file: Path, as_json: bool) -> None:
    if as_json:
        print_json({**_described(key.stored), "token": key.token, "file": str(file)})
        return
    print_stderr(f"A key of {key.stored.subject} is in {file}. This is its token; it is not shown again:")
    print_result(key.token)
