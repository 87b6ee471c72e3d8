"""Signatures: by which key a process signs, and which keys it believes. Without settings nothing is loaded here."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from everloop_shared.errors import Misconfigured
from everloop_shared.settings import Settings

if TYPE_CHECKING:
    from everloop_shared.signing.keys import SigningKey
    from everloop_shared.signing.trust import TrustStore
    from everloop_shared.signing.uses import Use


def signer_of(settings: Settings) -> SigningKey | None:
    """The key of EVERLOOP_SIGNING_KEY; None where it is not set. Raises Misconfigured."""
    return _key_in(settings.signing_key) if settings.signing_key else None


def trust_of(settings: Settings) -> TrustStore | None:
    """The keys of EVERLOOP_TRUSTED_KEYS, one store for each file; None where it is not set. Raises Misconfigured."""
    return _trust_in(settings.trusted_keys) if settings.trusted_keys else None


def require_own_key(settings: Settings, *uses: Use) -> None:
    """Raise Misconfigured where readers are to believe trusted keys only, and this process does not sign with one."""
    trust, signer = trust_of(settings), signer_of(settings)
    if trust is None:
        return
    if signer is None:
        raise Misconfigured(
            "EVERLOOP_TRUSTED_KEYS is set and EVERLOOP_SIGNING_KEY is not: what this service writes would be refused; "
            "make a key with `everloop signing create`"
        )
    for use in uses:
        if (reason := trust.distrusts(signer.id, use)) is not None:
            raise Misconfigured(f"EVERLOOP_SIGNING_KEY: {reason}; see `everloop signing trust --help`")


@lru_cache(16)
def _key_in(path: Path) -> SigningKey:
    from everloop_shared.signing.keys import SigningKey  # imported where signatures are on: the library takes 6 MB

    return SigningKey.read(path)


@lru_cache(16)
def _trust_in(path: Path) -> TrustStore:
    from everloop_shared.signing.trust import TrustStore

    return TrustStore(path)
