"""Keys for tests of who may do what, and the routes that the framework of a service answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastapi import FastAPI

from everloop_shared.access.key_file import GrantedRole, KeyFile, StoredSubject, change_key_file, make_key
from everloop_shared.access.limits import Limits
from everloop_shared.access.teams import TeamQuota

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class AnsweredRoute(NamedTuple):
    """A method and a path that some route answers."""

    method: str
    path: str


def add_key(
    file: Path,
    subject: str,
    *roles: str | GrantedRole,
    now: datetime = NOW,
    lasts: timedelta | None = None,
    kind: Literal["key", "service"] = "key",
    limits: Limits | None = None,
    team: str | None = None,
) -> str:
    """Add a key to the file; its token. A role that is a name is for all loops."""
    granted = tuple(GrantedRole(role=role) if isinstance(role, str) else role for role in roles)
    key = make_key(subject, granted, now, expires=now + lasts if lasts else None, kind=kind, limits=limits, team=team)
    change_key_file(file, lambda before: before.model_copy(update={"keys": (*before.keys, key.stored)}))
    return key.token


def add_team(file: Path, team: str, quota: TeamQuota) -> None:
    """Give a team a quota, in place of another."""
    change_key_file(file, lambda before: before.model_copy(update={"teams": {**before.teams, team: quota}}))


def add_subject(file: Path, subject: str, *roles: GrantedRole, team: str | None = None) -> None:
    """Give roles to somebody whom the provider knows."""
    added = StoredSubject(subject=subject, roles=roles, team=team)

    def change(before: KeyFile) -> KeyFile:
        return before.model_copy(update={"subjects": (*before.subjects, added)})

    change_key_file(file, change)


def bearer(token: str) -> dict[str, str]:
    """The header that carries it."""
    return {"authorization": f"Bearer {token}"}


def answered_routes(app: FastAPI) -> list[AnsweredRoute]:
    """Every route of the application, whether the OpenAPI document names it or not."""
    found = {AnsweredRoute(method, path) for path, methods in _paths(app.router.routes) for method in methods}
    return sorted(route for route in found if route.method not in ("HEAD", "OPTIONS"))


def _paths(routes: Sequence[Any]) -> Iterator[tuple[str, Sequence[str]]]:
    for route in routes:
        if hasattr(route, "effective_candidates"):  # a router that is included
            yield from _paths(route.effective_candidates())
        else:
            known = getattr(route, "original_route", route)
            yield getattr(route, "path", None) or route.starlette_route.path, sorted(known.methods)
