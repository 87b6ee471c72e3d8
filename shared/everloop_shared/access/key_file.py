"""The file of keys and roles: what it holds, how it is read, and how a command changes it."""

from __future__ import annotations

import fcntl
import hmac
import secrets
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from everloop_schemas.access.roles import ROLES
from everloop_shared.access.identity import EVERY_LOOP, Grant, Identity
from everloop_shared.access.limits import Limits
from everloop_shared.access.teams import EVERY_OTHER_TEAM, TeamName, TeamQuota
from everloop_shared.errors import Misconfigured
from everloop_shared.files import PRIVATE, replace_file

MARK = "evl"
PREFIX_BYTES, SECRET_BYTES = 5, 32
MAX_FILE_BYTES = 10_000_000


def _known(role: str) -> str:
    if role not in ROLES:
        raise ValueError(f"is none of the roles {', '.join(ROLES)}")
    return role


class _Model(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class GrantedRole(_Model):
    """A role for the loops whose names match one of the patterns."""

    role: Annotated[str, AfterValidator(_known)]
    loops: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field((EVERY_LOOP,), min_length=1)


class StoredKey(_Model):
    """A key without its secret, of which only the SHA-256 is here; `kind` is `service` for one of the installation.

    No slow hash is needed, as for passwords: the secret is 256 random bits, which nobody finds by trying.
    """

    prefix: str = Field(pattern=r"^[0-9a-f]{10}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    subject: str = Field(min_length=1, max_length=200)
    kind: Literal["key", "service"] = "key"
    roles: tuple[GrantedRole, ...] = Field(min_length=1)
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None
    limits: Limits | None = Field(None, description="in place of those of the settings")
    team: TeamName | None = Field(None, description="whose quotas count what it is used for")

    def ended(self, now: datetime) -> str | None:
        """Why it is not valid any more; None while it is."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else None


class StoredSubject(_Model):
    """The roles of somebody whom the OIDC provider knows, beside those that the token claims, their limits and team."""

    subject: str = Field(min_length=1, max_length=200)
    roles: tuple[GrantedRole, ...] = Field(min_length=1)
    limits: Limits | None = Field(None, description="in place of those of the settings")
    team: TeamName | None = Field(None, description="in place of the one that the token claims")


class KeyFile(_Model):
    """The whole file."""

    keys: tuple[StoredKey, ...] = Field((), max_length=10_000)
    subjects: tuple[StoredSubject, ...] = Field((), max_length=10_000)
    teams: dict[TeamName | Literal["*"], TeamQuota] = Field(default_factory=dict, max_length=10_000)

    def quota_of(self, team: str) -> TeamQuota:
        """How much a team may have: what is written for it, else for `*`, else any amount."""
        return self.teams.get(team) or self.teams.get(EVERY_OTHER_TEAM) or TeamQuota()


class NewKey(NamedTuple):
    """A key that was just made, and its token, which nobody can show again."""

    stored: StoredKey
    token: str


def grants_of(roles: tuple[GrantedRole, ...]) -> tuple[Grant, ...]:
    """The roles as grants."""
    return tuple(Grant(granted.role, granted.loops) for granted in roles)


def identity_of(key: StoredKey) -> Identity:
    """Whoever has the key."""
    return Identity(key.subject, key.kind, f"{MARK}_{key.prefix}", grants_of(key.roles), key.limits, key.team)


def make_key(
    subject: str,
    roles: tuple[GrantedRole, ...],
    now: datetime,
    *,
    expires: datetime | None = None,
    kind: Literal["key", "service"] = "key",
    limits: Limits | None = None,
    team: str | None = None,
) -> NewKey:
    """A new key; its token is `evl_<prefix>_<secret>`, the secret 256 random bits."""
    prefix, secret = secrets.token_hex(PREFIX_BYTES), secrets.token_hex(SECRET_BYTES)
    stored = StoredKey(
        prefix=prefix,
        sha256=digest_of(secret),
        subject=subject,
        kind=kind,
        roles=roles,
        created=now,
        expires=expires,
        limits=limits,
        team=team,
    )
    return NewKey(stored, f"{MARK}_{prefix}_{secret}")


def digest_of(secret: str) -> str:
    """What the file has in place of the secret."""
    return sha256(secret.encode()).hexdigest()


def split_token(token: str) -> tuple[str, str] | None:
    """Prefix and secret of a key's token; None for a token of another form."""
    mark, _, rest = token.partition("_")
    prefix, _, secret = rest.partition("_")
    return (prefix, secret) if mark == MARK and secret else None


def is_secret_of(key: StoredKey, secret: str) -> bool:
    """Compares in a time that does not depend on the secret."""
    return hmac.compare_digest(key.sha256, digest_of(secret))


def read_key_file(path: Path) -> KeyFile:
    """The file. Raises Misconfigured, which names what is wrong in it."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Misconfigured(f"EVERLOOP_AUTH_KEYS: {path} is larger than {MAX_FILE_BYTES:,} bytes")
        return KeyFile.model_validate_json(path.read_bytes())
    except OSError as e:
        fix = "make one: everloop keys create"
        raise Misconfigured(f"EVERLOOP_AUTH_KEYS: {path} cannot be read ({e.strerror}); {fix}") from e
    except ValidationError as e:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in e.errors()[:5])
        raise Misconfigured(f"EVERLOOP_AUTH_KEYS: {path}: {wrong}") from None  # its text would quote the file


def change_key_file(path: Path, change: Callable[[KeyFile], KeyFile]) -> KeyFile:
    """Replace the file by what `change` makes of it; one that is missing is made. One change at a time.

    A reader sees the file before or after. Raises Misconfigured.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        changed = change(read_key_file(path) if path.exists() else KeyFile())
        mode = path.stat().st_mode & 0o777 if path.exists() else PRIVATE
        replace_file(path, f"{changed.model_dump_json(indent=1, exclude_none=True)}\n".encode(), mode)
    return changed
