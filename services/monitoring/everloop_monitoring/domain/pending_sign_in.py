"""A sign-in that has gone to the provider and has not come back: what ties the answer to the browser that asked."""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import NamedTuple

SECRET_BYTES = 32
PARTS = 3


class PendingSignIn(NamedTuple):
    """The values of one sign-in; the browser keeps them in a cookie, so that the service keeps nothing.

    `state` comes back with the answer (RFC 6749, 10.12), `nonce` in the ID token (OpenID Connect Core, 3.1.2.1), and
    who redeems the code must have `verifier` (PKCE, RFC 7636).
    """

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> PendingSignIn:
        """Random values, 256 bits each."""
        return cls(*(secrets.token_urlsafe(SECRET_BYTES) for _ in range(PARTS)))

    @classmethod
    def from_text(cls, text: str | None) -> PendingSignIn | None:
        """What `text` has written; None for anything else."""
        parts = (text or "").split(".")
        return cls(*parts) if len(parts) == PARTS and all(parts) else None

    @property
    def text(self) -> str:
        """The values as a cookie has them."""
        return ".".join(self)

    @property
    def challenge(self) -> str:
        """The SHA-256 of the verifier, as the provider gets it beforehand (`S256`)."""
        return urlsafe_b64encode(sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()

    def has_state(self, state: str) -> bool:
        """Whether an answer belongs to it."""
        return hmac.compare_digest(self.state.encode(), state.encode())
