"""The keys, names and text forms under which rows are stored."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from pydantic import TypeAdapter

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.alerts import OpenAlert
from everloop_monitoring.domain.state import CountedOutcome, EvaluationState
from everloop_monitoring.domain.watch import Watch
from everloop_monitoring.ports import W

MAX_NAME_CHARACTERS = 63
STATE = TypeAdapter(EvaluationState)
COUNTED = TypeAdapter(CountedOutcome)
OPEN_ALERT = TypeAdapter(OpenAlert)
FORMS: dict[type[Watch], TypeAdapter[Any]] = {}
RowNames = Callable[[str], str]
"""From a loop to the name under which its rows are stored."""


class LifetimeNames:
    """The loop's name for its first lifetime, and for a later one the name with that lifetime's revision.

    So rows of an ended lifetime are never counted into the next.
    """

    def __init__(self, loops: KnownLoops) -> None:
        self._loops = loops

    def __call__(self, loop: str) -> str:
        """The name for a loop's current lifetime, at most 63 characters."""
        state = self._loops.get(loop)
        life = state.data.life if state else 1
        if life == 1:
            return loop
        name = f"{loop}@{life}"
        return name if len(name) <= MAX_NAME_CHARACTERS else f"{loop[:40]}.{key_of(loop).hex()[:12]}@{life}"


def form_of(kind: type[W]) -> TypeAdapter[W]:
    """How the state of a kind of watch is read and written."""
    if kind not in FORMS:
        FORMS[kind] = TypeAdapter(kind)
    return FORMS[kind]


def key_of(*parts: str) -> bytes:
    """A key of 16 bytes for an id of any length."""
    return blake2b("\0".join(parts).encode(), digest_size=16).digest()


def without_nul(text: str) -> str:
    """Text that PostgreSQL stores: it has no NUL, which a dead letter's reason may quote."""
    return text.replace("\0", "�")


def time_text(time: datetime) -> str:
    """A time as text whose order is the order of times."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")
