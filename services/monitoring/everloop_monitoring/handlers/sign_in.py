"""How somebody signs in at the console: with a key, with a code that stands for one, or at the OIDC provider."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from everloop_monitoring.domain.pending_sign_in import PendingSignIn
from everloop_monitoring.errors import NoProvider, SignInFailed
from everloop_monitoring.ports import SignInProvider
from everloop_shared.access.identity import Identity
from everloop_shared.access.sessions import SignInCodes

Identify = Callable[[bytes | None], Awaitable[Identity]]
"""Finds who has the token of an Authorization header; raises NotAuthenticated or Unavailable."""


class SignedIn(NamedTuple):
    """Somebody, and the token that the session goes on with."""

    identity: Identity
    token: str


@dataclass(frozen=True)
class SignInHandlers:
    """The ways to sign in; `provider` is None where the installation has none for browsers."""

    identify: Identify
    provider: SignInProvider | None = None
    codes: SignInCodes = field(default_factory=SignInCodes)

    async def by_token(self, token: str) -> SignedIn:
        """Whoever has this key; raises NotAuthenticated, NotPermitted or Unavailable."""
        identity = await self.identify(b"Bearer " + token.encode())
        if not identity.may_somewhere("server.read"):
            raise identity.refusal("server.read", "for any loop")
        return SignedIn(identity, token)

    async def by_code(self, code: str) -> SignedIn:
        """Whoever had the code made; raises SignInFailed where it was used or is too old."""
        token = self.codes.redeem(code)
        if token is None:
            raise SignInFailed("the address was used before, or is older than a minute: everloop up prints another")
        return await self.by_token(token)

    async def begin(self) -> tuple[PendingSignIn, str]:
        """A sign-in at the provider, and the address at which it goes on. Raises NoProvider or Unavailable."""
        pending = PendingSignIn.new()
        return pending, await self._known_provider().address(pending)

    async def finish(self, pending: PendingSignIn | None, code: str, state: str, issuer: str | None) -> SignedIn:
        """Whoever comes back from the provider with this answer.

        Raises SignInFailed where the answer is not for this browser, NotAuthenticated, NotPermitted or Unavailable.
        """
        provider = self._known_provider()
        if pending is None or not pending.has_state(state):
            raise SignInFailed("the answer belongs to no sign-in that this browser has begun; sign in again")
        if issuer is not None and issuer != provider.issuer:  # RFC 9207
            raise SignInFailed("another provider has answered")
        redeemed = await provider.redeem(code, pending)
        signed_in = await self.by_token(redeemed.access_token)
        if signed_in.identity.subject != redeemed.subject:
            raise SignInFailed("the provider's two tokens name different people")
        return signed_in

    def _known_provider(self) -> SignInProvider:
        if self.provider is None:
            raise NoProvider("signing in at a provider takes EVERLOOP_AUTH_CLIENT_ID; a key works")
        return self.provider
