"""Which version answers: a stable hash of the prediction id, or of the entity, against the canary's share."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from everloop_schemas.registry import BASELINE
from everloop_schemas.serving import Role

_PERSON = b"everloop-split"


@dataclass(frozen=True)
class Arm:
    """Who is served, and with which probability the split chose so; `canary` says that it is the candidate."""

    canary: bool
    propensity: float


def place(loop: str, unit: str) -> float:
    """Where `unit` lies in [0, 1), evenly and for ever: no version in it, so a rising share only ever adds units."""
    digest = blake2b(f"{loop}/{unit}".encode(), digest_size=8, person=_PERSON).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def split(loop: str, unit: str, share: float) -> Arm:
    """The arm of `unit` when `share` of the traffic goes to the candidate."""
    if share <= 0.0:
        return Arm(False, 1.0)
    return Arm(True, share) if place(loop, unit) < share else Arm(False, 1.0 - share)


def role_of(version: str, *, canary: bool) -> Role:
    """The word for a served version's part."""
    if canary:
        return "canary"
    return "baseline" if version == BASELINE else "champion"
