"""Which version serves: a stable hash of the prediction id, or of the entity, against the canary's share."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from everloop_schemas.registry import BASELINE
from everloop_schemas.serving import Role

_PERSON = b"everloop-split"


class SplitAssignment(NamedTuple):
    """Whether the candidate serves (`canary`), and the probability with which the split chose so."""

    canary: bool
    propensity: float


WITHOUT_CANARY = SplitAssignment(False, 1.0)


def hash_to_fraction(loop: str, unit: str) -> float:
    """A hash of `unit` in [0, 1), evenly spread. It has no version in it, so a rising share only adds units."""
    digest = blake2b(f"{loop}/{unit}".encode(), digest_size=8, person=_PERSON).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def assign(loop: str, unit: str, share: float) -> SplitAssignment:
    """The assignment of `unit` when `share` of the traffic goes to the candidate."""
    if share <= 0.0:
        return WITHOUT_CANARY
    canary = hash_to_fraction(loop, unit) < share
    return SplitAssignment(canary, share if canary else 1.0 - share)


def role_of(version: str, *, canary: bool) -> Role:
    """The role of a version that served."""
    if canary:
        return "canary"
    return "baseline" if version == BASELINE else "champion"
