"""Who asks: a subject, where it is known from, and its roles for loops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from everloop_schemas.access.roles import roles_for
from everloop_shared.access.errors import NotPermitted
from everloop_shared.access.limits import Limits

Kind = Literal["anonymous", "key", "token", "service"]
EVERY_LOOP = "*"


@dataclass(frozen=True)
class Grant:
    """A role for the loops whose names match one of these shell patterns."""

    role: str
    loops: tuple[str, ...] = (EVERY_LOOP,)

    def covers(self, loop: str) -> bool:
        """Whether the loop is one of them."""
        return any(pattern == EVERY_LOOP or fnmatchcase(loop, pattern) for pattern in self.loops)


@dataclass(frozen=True)
class Identity:
    """Somebody. `kind` says how the subject is known: by a key, a service's key, or a token of the provider `source`.

    Of a key, `source` is the prefix. `limits`, where there are some, replace those of the settings. `team` is whose
    quotas count what they ask for.
    """

    subject: str
    kind: Kind
    source: str = ""
    grants: tuple[Grant, ...] = ()
    limits: Limits | None = None
    team: str | None = None

    def may(self, action: str, loop: str) -> bool:
        """Whether a role of theirs for this loop permits the action."""
        return any(grant.covers(loop) for grant in self._grants_for(action))

    def may_everywhere(self, action: str) -> bool:
        """Whether it does for all loops, those of the future included."""
        return any(EVERY_LOOP in grant.loops for grant in self._grants_for(action))

    def may_somewhere(self, action: str) -> bool:
        """Whether it does for any loop."""
        return any(True for _ in self._grants_for(action))

    def is_admin_of(self, loop: str) -> bool:
        """Whether they have the role that may do everything, for this loop."""
        return any(grant.role == "admin" and grant.covers(loop) for grant in self.grants)

    def require(self, action: str, loop: str) -> None:
        """Raises NotPermitted unless the action is permitted for this loop."""
        if not self.may(action, loop):
            refused = self.refusal(action, f"for loop {loop[:200]}")
            refused.loop = loop
            raise refused

    def refusal(self, action: str, where: str) -> NotPermitted:
        """The error that names what is missing."""
        roles = ", ".join(roles_for(action))
        return NotPermitted(f"{self.subject} may not {action} {where}: that takes one of the roles {roles}")

    def _grants_for(self, action: str) -> Iterator[Grant]:
        permitted = roles_for(action)
        return (grant for grant in self.grants if grant.role in permitted)


EVERYBODY = Identity("anonymous", "anonymous", grants=(Grant("admin"),))
"""Whoever asks while nobody has to say who it is: EVERLOOP_AUTH=off."""
STRANGER = Identity("anonymous", "anonymous")
"""Whoever asks for what is open to all while everything else takes a token; may do nothing."""

_current: ContextVar[Identity] = ContextVar("everloop_identity", default=EVERYBODY)


def current_identity() -> Identity:
    """Who gave the request that the current task answers."""
    return _current.get()


def become(identity: Identity) -> None:
    """Have the rest of this task, and the tasks that it starts, act for this identity."""
    _current.set(identity)


@contextmanager
def acting_for(identity: Identity) -> Iterator[None]:
    """Have what happens within act for this identity."""
    token = _current.set(identity)
    try:
        yield
    finally:
        _current.reset(token)
