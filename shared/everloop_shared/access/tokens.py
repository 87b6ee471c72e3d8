"""Bearer tokens of an OIDC provider (RFC 7519, RFC 9068): verified by its published keys (RFC 7517)."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import jwt

from everloop_schemas.access.roles import ROLES
from everloop_shared.access.errors import TokenNotValid
from everloop_shared.access.identity import EVERY_LOOP, Grant, Identity
from everloop_shared.access.provider_keys import ProviderKeys, UnknownKey, VerifyingKey
from everloop_shared.access.settings import Provider
from everloop_shared.access.teams import find_claim, read_team

log = logging.getLogger(__name__)
LEEWAY_S = 30.0
"""How far the provider's clock may differ from ours."""
MOST_KNOWN = 1_000
"""Verified tokens that are remembered, so that each request of a client does not cost a signature."""
MAX_ROLES = 200
REQUIRED = ("exp", "iss", "aud", "sub")


class _Known(NamedTuple):
    identity: Identity
    expires: float
    generation: int


class TokenVerifier:
    """Verifies tokens of one provider; one that was verified is remembered until it expires, or the keys change."""

    def __init__(
        self, provider: Provider, keys: ProviderKeys | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._provider, self._now = provider, now
        self._keys = keys or ProviderKeys(provider.issuer, provider.jwks_url)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def known(self, token: str) -> Identity | None:
        """Who has a token that was verified before and still holds."""
        digest = sha256(token.encode()).digest()
        found = self._known.get(digest)
        if found is None:
            return None
        self._keys.read_again_if_old()
        if found.expires <= self._now() or found.generation != self._keys.generation:
            del self._known[digest]
            return None
        return found.identity

    async def verify(self, token: str) -> Identity:
        """Who has the token. Raises TokenNotValid, or Unavailable while the provider's keys were never read."""
        if (identity := self.known(token)) is not None:
            return identity
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = await self._keys.find(key_id if isinstance(key_id, str) else None)
            claims = self._decode(token, key)
            identity = self._identity_of(claims)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as e:
            raise TokenNotValid(f"the provider's token is not valid: {_reason(e)}") from None
        self._remember(token, identity, float(claims["exp"]))
        return identity

    def _decode(self, token: str, key: VerifyingKey) -> Mapping[str, Any]:
        """The claims; raises what PyJWT raises. The algorithms are those of the settings, whatever the token says."""
        provider = self._provider
        return jwt.decode(
            token,
            key,
            algorithms=provider.algorithms,
            audience=provider.audience,
            issuer=provider.issuer,
            leeway=LEEWAY_S,
            options={"require": list(REQUIRED), "enforce_minimum_key_length": True},
        )

    def _identity_of(self, claims: Mapping[str, Any]) -> Identity:
        grants = read_grants(claims, self._provider.roles_claim)
        team = read_team(claims, self._provider.team_claim)
        return Identity(str(claims["sub"])[:200], "token", self._provider.issuer, grants, team=team)

    def _remember(self, token: str, identity: Identity, expires: float) -> None:
        self._known[sha256(token.encode()).digest()] = _Known(identity, expires, self._keys.generation)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)


def read_grants(claims: Mapping[str, Any], path: str) -> tuple[Grant, ...]:
    """The roles of a claim: ROLE, for all loops, or ROLE:PATTERN. Names that are no role of ours are left out."""
    found = find_claim(claims, path)
    names: Sequence[Any] = found.split() if isinstance(found, str) else found if isinstance(found, list) else ()
    written = [name.partition(":") for name in names[:MAX_ROLES] if isinstance(name, str)]
    return tuple(Grant(role, (pattern or EVERY_LOOP,)) for role, _, pattern in written if role in ROLES)


def _reason(error: Exception) -> str:
    """What is wrong, in words that repeat nothing of the token."""
    reasons: dict[type[Exception], str] = {
        jwt.ExpiredSignatureError: "it has expired",
        jwt.ImmatureSignatureError: "it is not valid yet",
        jwt.InvalidAudienceError: "it is for another audience",
        jwt.InvalidIssuerError: "another provider issued it",
        jwt.InvalidAlgorithmError: "its algorithm is not among EVERLOOP_AUTH_ALGORITHMS",
        jwt.InvalidSignatureError: "its signature is wrong",
        jwt.MissingRequiredClaimError: f"it lacks one of the claims {', '.join(REQUIRED)}",
        UnknownKey: "the provider has no key of its id",
    }
    return next((text for kind, text in reasons.items() if isinstance(error, kind)), "it cannot be read")
