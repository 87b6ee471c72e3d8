"""The OIDC provider at which browsers sign in: authorization code with PKCE (RFC 6749, RFC 7636), OpenID Connect."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import jwt

from everloop_monitoring.adapters.other_service import read_answer, read_object
from everloop_monitoring.domain.pending_sign_in import PendingSignIn
from everloop_monitoring.errors import SignInFailed
from everloop_monitoring.ports import Redeemed
from everloop_shared.access.provider_keys import DISCOVERY, READ_AGAIN_S, ProviderKeys, fetch_document
from everloop_shared.access.settings import Provider, discovered_url, is_loopback
from everloop_shared.access.spaced_reading import SpacedReading
from everloop_shared.errors import Misconfigured, Overloaded, Unavailable

log = logging.getLogger(__name__)
TIMEOUT_S = 10.0
LEEWAY_S = 30.0
KNOWN_FOR_S = 300.0
"""How long the provider's discovery document is not asked for again."""
MOST_AT_ONCE = 20
"""Codes that are redeemed at one time; strangers could make the provider work otherwise."""
REQUIRED = ("exp", "iat", "iss", "aud", "sub", "nonce")
MAX_SECRET_BYTES = 4_096
Form = Mapping[str, str]
PostForm = Callable[[str, Form, Mapping[str, str]], Awaitable[tuple[int, dict[str, Any]]]]
"""Posts a form to an address, with headers; the status and the object of the answer. Raises OSError."""


@dataclass(frozen=True)
class ProviderClient:
    """Who we are for the provider, and where it sends browsers back to; `secret_file` of a confidential client."""

    id: str
    redirect_uri: str
    scope: str
    secret_file: Path | None = None

    def authorization(self) -> dict[str, str]:
        """How it authenticates (`client_secret_basic`); nothing of a public client. Raises Misconfigured."""
        if self.secret_file is None:
            return {}
        pair = ":".join(quote(part, safe="") for part in (self.id, self._secret(self.secret_file)))
        return {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    def _secret(self, file: Path) -> str:
        try:
            with file.open("rb") as opened:
                secret = opened.read(MAX_SECRET_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as e:
            raise Misconfigured(f"EVERLOOP_AUTH_CLIENT_SECRET_FILE: {file} cannot be read") from e
        if not secret:
            raise Misconfigured(f"EVERLOOP_AUTH_CLIENT_SECRET_FILE: {file} is empty")
        return secret


class OidcProvider:
    """The provider of the settings, for one client."""

    def __init__(
        self,
        provider: Provider,
        client: ProviderClient,
        fetch: Callable[[str], bytes] = fetch_document,
        post: PostForm | None = None,
    ) -> None:
        """Raises Misconfigured where the client's secret cannot be read."""
        client.authorization()
        self.issuer = provider.issuer
        self._provider, self._client, self._fetch, self._post = provider, client, fetch, post or post_form
        self._keys = ProviderKeys(provider.issuer, provider.jwks_url, fetch)
        self._document: dict[str, Any] = {}
        self._read_at = float("-inf")
        self._reading = SpacedReading(self._discover, READ_AGAIN_S, time.monotonic)
        self._redeeming = 0

    async def address(self, pending: PendingSignIn) -> str:
        """Where the browser goes."""
        endpoint = await self._endpoint("authorization_endpoint")
        query = {
            "response_type": "code",
            "client_id": self._client.id,
            "redirect_uri": self._client.redirect_uri,
            "scope": self._client.scope,
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": pending.challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def redeem(self, code: str, pending: PendingSignIn) -> Redeemed:
        """The tokens for a code, with the ID token verified for this client and this sign-in."""
        if self._redeeming >= MOST_AT_ONCE:
            raise Overloaded(f"{MOST_AT_ONCE} people are signing in at this moment; try again")
        self._redeeming += 1
        try:
            tokens = await self._redeem(code, pending)
        finally:
            self._redeeming -= 1
        access, id_token = tokens.get("access_token"), tokens.get("id_token")
        if not isinstance(access, str) or not isinstance(id_token, str):
            raise SignInFailed("the provider gives no access token with an ID token: EVERLOOP_AUTH_CLIENT_SCOPE")
        return Redeemed(access, await self._subject_of(id_token, pending))

    async def _redeem(self, code: str, pending: PendingSignIn) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._client.redirect_uri,
            "client_id": self._client.id,
            "code_verifier": pending.verifier,
        }
        endpoint = await self._endpoint("token_endpoint")
        try:
            status, answer = await self._post(endpoint, form, self._client.authorization())
        except OSError as e:
            raise Unavailable(f"the OIDC provider does not answer ({type(e).__name__}); try again") from e
        if status >= 500:
            raise Unavailable(f"the OIDC provider answers {status}; try again")
        if status != 200:
            raise SignInFailed(f"the provider does not take the code: {str(answer.get('error', status))[:100]}")
        return answer

    async def _subject_of(self, id_token: str, pending: PendingSignIn) -> str:
        """Whom the ID token names (OpenID Connect Core, 3.1.3.7)."""
        try:
            key_id = jwt.get_unverified_header(id_token).get("kid")
            key = await self._keys.find(key_id if isinstance(key_id, str) else None)
            claims = jwt.decode(
                id_token,
                key,
                algorithms=self._provider.algorithms,
                audience=self._client.id,
                issuer=self.issuer,
                leeway=LEEWAY_S,
                options={"require": list(REQUIRED), "enforce_minimum_key_length": True},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as e:
            raise SignInFailed(f"the provider's ID token is not valid ({type(e).__name__})") from None
        if claims.get("azp", self._client.id) != self._client.id:
            raise SignInFailed("the provider's ID token is for another client")
        if not hmac.compare_digest(str(claims["nonce"]).encode(), pending.nonce.encode()):
            raise SignInFailed("the provider's ID token is for another sign-in (nonce)")
        return str(claims["sub"])[:200]

    async def _endpoint(self, name: str) -> str:
        if self._is_old():
            await self._reading.wait()
        if self._is_old():
            raise Unavailable("the OIDC provider's discovery document cannot be read; try again in a moment")
        try:
            return discovered_url(str(self._document.get(name) or ""), self.issuer)
        except ValueError:
            raise Unavailable(
                f"the OIDC provider's discovery document names no {name} with https on another machine"
            ) from None

    def _is_old(self) -> bool:
        return time.monotonic() - self._read_at > KNOWN_FOR_S

    async def _discover(self) -> None:
        try:
            document = json.loads(await asyncio.to_thread(self._fetch, self.issuer.rstrip("/") + DISCOVERY))
            if not isinstance(document, dict) or document.get("issuer") != self.issuer:
                raise ValueError("it names another issuer")
        except (OSError, ValueError, RecursionError) as e:
            reason = f"{type(e).__name__}: {e}"[:500]
            log.error("the OIDC provider's discovery document cannot be read", extra={"reason": reason})
        else:
            self._document, self._read_at = document, time.monotonic()


async def post_form(url: str, form: Form, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """As `PostForm`. A redirect is not followed."""
    import httpx

    is_here = is_loopback(urlsplit(url).hostname or "")  # a proxy is for other machines
    accepted = {"accept": "application/json", **headers}
    try:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=not is_here) as client,
            client.stream("POST", url, data=dict(form), headers=accepted) as response,
        ):
            return response.status_code, read_object(await read_answer(response.aiter_bytes()))
    except httpx.HTTPError as e:
        raise OSError(type(e).__name__) from e
