"""The public keys of an OIDC provider: read by HTTP, remembered, and read again when they may have changed."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import jwt

from everloop_shared.access.settings import discovered_url, is_loopback
from everloop_shared.access.spaced_reading import SpacedReading
from everloop_shared.errors import Unavailable

log = logging.getLogger(__name__)
DISCOVERY = "/.well-known/openid-configuration"
READ_AGAIN_S = 10.0
"""The keys are read at most once in so many seconds, however many tokens name a key that is not known."""
OLD_AFTER_S = 300.0
"""Known keys are read again after so long, so that those that the provider has withdrawn stop working."""
TIMEOUT_S, MAX_BYTES, MOST_KEYS = 5.0, 1_000_000, 100
Fetch = Callable[[str], bytes]
VerifyingKey = Any
"""A `jwt.PyJWK`, or a public key of the `cryptography` package."""


class UnknownKey(ValueError):
    """The provider has no key of this id."""


class ProviderKeys:
    """The keys by their id. While the provider is away, those that are known stay; `generation` counts the changes."""

    def __init__(
        self,
        issuer: str,
        jwks_url: str = "",
        fetch: Fetch | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer, self._jwks_url, self._fetch, self._timer = issuer, jwks_url, fetch or fetch_document, timer
        self._keys: dict[str | None, VerifyingKey] = {}
        self._document = b""
        self._read_at: float | None = None
        self._reading = SpacedReading(self._read, READ_AGAIN_S, timer)
        self.generation = 0

    async def find(self, key_id: str | None) -> VerifyingKey:
        """The key of this id; a token without one is by the only key. Raises UnknownKey, or Unavailable."""
        if (known := self._known(key_id)) is None:
            await self._reading.wait()
            known = self._known(key_id)
        else:
            self.read_again_if_old()
        if known is not None:
            return known
        if self._read_at is None:
            raise Unavailable("the keys of the OIDC provider cannot be read; try again")
        raise UnknownKey

    def read_again_if_old(self) -> None:
        """Have them read again where it is time, without waiting for it."""
        if self._read_at is None or self._timer() - self._read_at > OLD_AFTER_S:
            self._reading.start()

    def _known(self, key_id: str | None) -> VerifyingKey | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _read(self) -> None:
        try:
            document = await asyncio.to_thread(self._fetch_document)
            if document != self._document:
                self._keys = read_keys(document)
                self._document, self.generation = document, self.generation + 1
                log.info("keys of the OIDC provider read", extra={"keys": len(self._keys)})
        except (OSError, ValueError, jwt.PyJWTError) as e:
            log.error("the keys of the OIDC provider cannot be read", extra={"reason": f"{type(e).__name__}: {e}"})
        else:
            self._read_at = self._timer()

    def _fetch_document(self) -> bytes:
        return self._fetch(self._jwks_url or self._discover())

    def _discover(self) -> str:
        document = _read_object(self._fetch(self._issuer.rstrip("/") + DISCOVERY))
        if document.get("issuer") != self._issuer:
            raise ValueError("its discovery document names another issuer")
        return discovered_url(str(document.get("jwks_uri", "")), self._issuer)


def read_keys(document: bytes) -> dict[str | None, VerifyingKey]:
    """The keys for signatures that a JWKS document names; raises ValueError if there is none.

    One whose description names its algorithm verifies that alone.
    """
    described = _read_object(document).get("keys")
    keys: dict[str | None, VerifyingKey] = {}
    for each in described[:MOST_KEYS] if isinstance(described, list) else ():
        if not isinstance(each, dict) or each.get("use", "sig") != "sig" or each.get("kty") == "oct":
            continue
        with suppress(jwt.PyJWTError, ValueError, TypeError):  # of a kind that we do not know; the others count
            key = jwt.PyJWK.from_dict(each)
            keys[each.get("kid")] = key if "alg" in each else key.key
    if not keys:
        raise ValueError("it names no key for signatures")
    return keys


def fetch_document(url: str) -> bytes:
    """What the provider answers. Blocks; raises OSError or ValueError. A redirect is not followed."""
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy is for other machines
    request = urllib.request.Request(url, headers={"accept": "application/json"})
    with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S) as answer:
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"it answers {answer.status}")
        body: bytes = answer.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
    return body


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _read_object(body: bytes) -> Mapping[str, Any]:
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found
