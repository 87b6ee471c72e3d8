"""Signing in at an OIDC provider: what is asked of it, and which answers are refused."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from everloop_monitoring.adapters.provider import OidcProvider, ProviderClient
from everloop_monitoring.domain.pending_sign_in import PendingSignIn
from everloop_monitoring.errors import SignInFailed
from everloop_monitoring.handlers.sign_in import SignInHandlers
from everloop_shared.access.control import Authenticator
from everloop_shared.access.errors import NotAuthenticated, NotPermitted
from everloop_shared.access.provider_keys import ProviderKeys
from everloop_shared.access.settings import Provider
from everloop_shared.access.tokens import TokenVerifier
from everloop_shared.errors import Misconfigured, ServiceError, Unavailable

ISSUER, AUDIENCE, US = "https://login.example/realm", "everloop", "the console"
REDIRECT = "https://console.example/sign-in"
KEY, OTHER_KEY = (rsa.generate_private_key(65_537, 2_048) for _ in range(2))
JWK = {**jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "one", "use": "sig"}


class ScriptedProvider:
    """Answers as a provider does; a test changes what one part of its answer says."""

    def __init__(self, **document: str) -> None:
        self.document = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth?tenant=1",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/jwks",
            **document,
        }
        self.id_claims: dict[str, Any] = {}
        self.access_claims: dict[str, Any] = {}
        self.signs_with, self.status, self.without = KEY, 200, ""
        self.forms: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.fetched: list[str] = []
        self.is_away = False

    def fetch(self, url: str) -> bytes:
        """As `fetch_document`."""
        self.fetched.append(url)
        if self.is_away:
            raise OSError("no route")
        return json.dumps({"keys": [JWK]} if url.endswith("/jwks") else self.document).encode()

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """As `post_form`; the nonce is that of whose code this is."""
        self.forms.append((url, dict(form), dict(headers)))
        if self.status != 200:
            return self.status, {"error": "invalid_grant"}
        common = {"iss": ISSUER, "sub": "alice", "iat": time.time(), "exp": time.time() + 60}
        nonce = form["code"].partition("for ")[2]
        id_token = {**common, "aud": US, "nonce": nonce, **self.id_claims}
        access = {**common, "aud": AUDIENCE, "roles": ["operator"], **self.access_claims}
        tokens = {
            "access_token": jwt.encode(access, KEY, "RS256", headers={"kid": "one"}),
            "id_token": jwt.encode(
                {name: value for name, value in id_token.items() if name != self.without},
                self.signs_with,
                "RS256",
                headers={"kid": "one"},
            ),
        }
        return 200, {name: value for name, value in tokens.items() if name != self.without}

    def handlers(self, secret_file: Path | None = None) -> SignInHandlers:
        """The console, which signs in here."""
        provider = Provider(ISSUER, AUDIENCE, ("RS256",), "", "roles")
        client = ProviderClient(US, REDIRECT, "openid", secret_file)
        verifier = TokenVerifier(provider, ProviderKeys(ISSUER, fetch=self.fetch))
        oidc = OidcProvider(provider, client, self.fetch, self.post)
        return SignInHandlers(Authenticator(None, verifier).identify, oidc)


async def signed_in(provider: ScriptedProvider, handlers: SignInHandlers | None = None, **sent: Any) -> str:
    """Sign in, and come back with what the provider would send but for what is given; the subject."""
    handlers = handlers or provider.handlers()
    pending, _ = await handlers.begin()
    right = {"pending": pending, "code": f"for {pending.nonce}", "state": pending.state, "issuer": None}
    return (await handlers.finish(**{**right, **sent})).identity.subject


async def test_the_provider_is_asked_for_a_code_with_pkce_state_and_nonce() -> None:
    pending, address = await ScriptedProvider().handlers().begin()

    query = dict(parse_qsl(urlsplit(address).query))

    assert address.startswith(f"{ISSUER}/auth?tenant=1&")
    assert query == {
        "tenant": "1",
        "response_type": "code",
        "client_id": US,
        "redirect_uri": REDIRECT,
        "scope": "openid",
        "state": pending.state,
        "nonce": pending.nonce,
        "code_challenge": urlsafe_b64encode(sha256(pending.verifier.encode()).digest()).decode().rstrip("="),
        "code_challenge_method": "S256",
    }
    assert pending.verifier not in address
    assert len(set(pending)) == 3


async def test_a_code_is_redeemed_with_its_verifier_by_a_public_and_a_confidential_client(tmp_path: Path) -> None:
    provider, secret = ScriptedProvider(), tmp_path / "secret"
    secret.write_text("a secret: with signs\n")

    subjects = [await signed_in(provider), await signed_in(provider, provider.handlers(secret), issuer=ISSUER)]

    (url, form, public), (_, _, confidential) = provider.forms
    assert subjects == ["alice", "alice"]
    assert url == f"{ISSUER}/token"
    assert {name: form[name] for name in ("grant_type", "client_id", "redirect_uri")} == {
        "grant_type": "authorization_code",
        "client_id": US,
        "redirect_uri": REDIRECT,
    }
    assert len(form["code_verifier"]) == 43
    assert public == {}
    assert b64decode(confidential["authorization"][6:]) == b"the%20console:a%20secret%3A%20with%20signs"


@pytest.mark.parametrize(
    "sent",
    [{"state": "guessed"}, {"pending": None}, {"pending": PendingSignIn.new()}, {"issuer": "https://evil.example"}],
)
async def test_an_answer_that_belongs_to_no_sign_in_of_the_browser_reaches_no_provider(sent: dict[str, Any]) -> None:
    provider = ScriptedProvider()

    with pytest.raises(SignInFailed):
        await signed_in(provider, **sent)

    assert provider.forms == []


WRONG_ID_TOKENS: dict[str, dict[str, Any]] = {
    "of another sign-in": {"nonce": "of another"},
    "for another client": {"aud": "shop"},
    "for several, and presented by another": {"aud": [US, "shop"], "azp": "shop"},
    "of another provider": {"iss": "https://evil.example"},
    "expired": {"exp": time.time() - 3_600},
    "of somebody else": {"sub": "mallory"},
}


@pytest.mark.parametrize("claims", WRONG_ID_TOKENS.values(), ids=WRONG_ID_TOKENS.keys())
async def test_a_wrong_id_token_signs_nobody_in(claims: dict[str, Any]) -> None:
    provider = ScriptedProvider()
    provider.id_claims = claims

    with pytest.raises(NotAuthenticated):
        await signed_in(provider)


@pytest.mark.parametrize("missing", ["id_token", "access_token", "nonce", "exp", "sub"])
async def test_an_answer_that_lacks_a_part_signs_nobody_in(missing: str) -> None:
    provider = ScriptedProvider()
    provider.without = missing

    with pytest.raises(SignInFailed):
        await signed_in(provider)


async def test_who_has_no_role_or_no_access_token_for_us_is_told_so() -> None:
    by_others, without_role, for_others = ScriptedProvider(), ScriptedProvider(), ScriptedProvider()
    by_others.signs_with, without_role.access_claims = OTHER_KEY, {"roles": []}
    for_others.access_claims = {"aud": "https://shop.example"}

    with pytest.raises(SignInFailed, match="ID token is not valid"):
        await signed_in(by_others)
    with pytest.raises(NotPermitted, match="takes one of the roles"):
        await signed_in(without_role)
    with pytest.raises(NotAuthenticated, match="another audience"):
        await signed_in(for_others)


@pytest.mark.parametrize(
    ("status", "error"), [(400, SignInFailed), (401, SignInFailed), (302, SignInFailed), (503, Unavailable)]
)
async def test_a_code_that_is_refused_signs_nobody_in(status: int, error: type[ServiceError]) -> None:
    provider = ScriptedProvider()
    provider.status = status

    with pytest.raises(error):
        await signed_in(provider)


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "http://login.example/auth"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": ""},
        {"token_endpoint": "http://127.0.0.1:8001/v1/loops/churn/rollback"},
        {"token_endpoint": "https://localhost:8001/token"},
        {"jwks_uri": "http://[::1]:8001/keys"},
    ],
)
async def test_a_discovery_document_that_leads_elsewhere_is_not_followed(document: dict[str, str]) -> None:
    provider = ScriptedProvider(**document)

    with pytest.raises(Unavailable):
        await signed_in(provider)

    asked = {urlsplit(url).hostname for url in [*provider.fetched, *(form[0] for form in provider.forms)]}
    assert asked == {"login.example"}


async def test_however_many_strangers_begin_the_provider_is_asked_once() -> None:
    away, there = ScriptedProvider(), ScriptedProvider()
    away.is_away = True

    async def begin(handlers: SignInHandlers) -> bool:
        try:
            await handlers.begin()
        except Unavailable:
            return False
        return True

    for_away, for_there = away.handlers(), there.handlers()
    refused = await asyncio.gather(*(begin(for_away) for _ in range(50)))
    begun = await asyncio.gather(*(begin(for_there) for _ in range(50)))

    assert not any(refused)
    assert all(begun)
    assert (len(away.fetched), len(there.fetched)) == (1, 1)


def test_a_secret_that_cannot_be_read_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    for name in ("missing", "empty"):
        with pytest.raises(Misconfigured, match="EVERLOOP_AUTH_CLIENT_SECRET_FILE"):
            ScriptedProvider().handlers(tmp_path / name)


def test_a_cookie_of_another_form_is_no_pending_sign_in() -> None:
    pending = PendingSignIn.new()

    assert PendingSignIn.from_text(pending.text) == pending
    assert [PendingSignIn.from_text(text) for text in (None, "", "a.b", "a..c", "a.b.c.d")] == [None] * 5
