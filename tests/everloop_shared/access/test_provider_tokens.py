"""Tokens of an OIDC provider: which are refused, and what happens when its keys change or it is away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from everloop_shared.access.control import Authenticator
from everloop_shared.access.errors import NotAuthenticated, TokenNotValid
from everloop_shared.access.identity import Grant
from everloop_shared.access.provider_keys import (
    MAX_BYTES,
    OLD_AFTER_S,
    READ_AGAIN_S,
    ProviderKeys,
    fetch_document,
)
from everloop_shared.access.settings import AccessSettings, Provider
from everloop_shared.access.teams import read_team
from everloop_shared.access.tokens import TokenVerifier, read_grants
from everloop_shared.errors import Unavailable

ISSUER, AUDIENCE = "https://login.example", "everloop"
RSA = rsa.generate_private_key(65_537, 2_048)
OTHER_RSA = rsa.generate_private_key(65_537, 2_048)


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, key_id: str, **more: str) -> dict[str, Any]:
    """The public key as the provider publishes it."""
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    public: Any = key.public_key()
    return {**kind.to_jwk(public, as_dict=True), "kid": key_id, "use": "sig", **more}


class FakeProvider:
    """What a provider answers: its discovery document and its keys; None while it is away."""

    def __init__(self, *keys: Mapping[str, Any]) -> None:
        self.keys: list[Mapping[str, Any]] | None = list(keys)
        self.asked = 0
        self.now = 0.0

    def fetch(self, url: str) -> bytes:
        """As `fetch_document`."""
        if url.endswith("/.well-known/openid-configuration"):
            return json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"}).encode()
        self.asked += 1
        if self.keys is None:
            raise OSError("away")
        return json.dumps({"keys": self.keys}).encode()

    def verifier(self, algorithms: tuple[str, ...] = ("RS256",), claim: str = "roles") -> TokenVerifier:
        """Verifies tokens of this provider."""
        keys = ProviderKeys(ISSUER, fetch=self.fetch, timer=lambda: self.now)
        return TokenVerifier(Provider(ISSUER, AUDIENCE, algorithms, "", claim), keys)


def token(
    key: Any = RSA, key_id: str | None = "one", algorithm: str = "RS256", without: str = "", **claims: Any
) -> str:
    """A token that is right but for what is given."""
    right = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 600, "roles": ["viewer"]}
    payload = {name: value for name, value in (right | claims).items() if name != without}
    return jwt.encode(payload, key, algorithm, headers={"kid": key_id} if key_id else None)


async def test_a_token_gives_subject_issuer_and_roles() -> None:
    verifier = FakeProvider(jwk(RSA, "one")).verifier()

    identity = await verifier.verify(token(roles=["viewer", "engineer:churn-*", "unknown", 7]))

    assert (identity.subject, identity.kind, identity.source) == ("alice", "token", ISSUER)
    assert identity.grants == (Grant("viewer"), Grant("engineer", ("churn-*",)))


def hs256_by_the_public_key() -> str:
    """What an attacker sends who knows the public key, as everybody does."""
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body = (
        jwt.utils.base64url_encode(json.dumps(part).encode())
        for part in (
            {"alg": "HS256", "kid": "one", "typ": "JWT"},
            {"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "exp": time.time() + 600, "roles": ["admin"]},
        )
    )
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = jwt.utils.base64url_encode(algorithm.sign(head + b"." + body, pem))
    return b".".join((head, body, signature)).decode()


BAD: dict[str, Callable[[], str]] = {
    "alg=none": lambda: token(key=None, algorithm="none"),
    "HS256 with the public key": hs256_by_the_public_key,
    "another audience": lambda: token(aud="shop"),
    "another issuer": lambda: token(iss="https://evil.example"),
    "expired": lambda: token(exp=time.time() - 60),
    "an unknown key": lambda: token(key_id="two"),
    "signed by another key": lambda: token(key=OTHER_RSA),
    "another algorithm of the same key": lambda: token(algorithm="PS256"),
    "without exp": lambda: token(without="exp"),
    "without aud": lambda: token(without="aud"),
    "without iss": lambda: token(without="iss"),
    "without sub": lambda: token(without="sub"),
    "not valid yet": lambda: token(nbf=time.time() + 600),
    "no token": lambda: "a.b.c",
    "a header of brackets": lambda: jwt.utils.base64url_encode(b"[" * 5_000).decode() + ".e30.e30",
    "changed": lambda: token()[:-8] + "AAAAAAAA",
}


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_token_is_refused_and_not_repeated(what: str) -> None:
    verifier, sent = FakeProvider(jwk(RSA, "one")).verifier(), BAD[what]()

    with pytest.raises(TokenNotValid) as refused:
        await verifier.verify(sent)

    assert not any(part and part in refused.value.detail for part in sent.split(".") if len(part) > 3)
    assert verifier.known(sent) is None


async def test_a_rotated_key_works_at_its_first_token_and_an_unknown_one_asks_once_in_ten_seconds() -> None:
    provider = FakeProvider(jwk(RSA, "one"))
    verifier = provider.verifier()
    await verifier.verify(token())
    provider.keys, provider.now = [jwk(OTHER_RSA, "two")], READ_AGAIN_S
    rotated = token(OTHER_RSA, "two")

    identity = await verifier.verify(rotated)
    for _ in range(20):
        with pytest.raises(TokenNotValid):
            await verifier.verify(token(key_id="three"))

    assert identity.subject == "alice"
    assert provider.asked == 2


async def test_a_withdrawn_key_stops_working_though_its_token_was_verified_before() -> None:
    provider = FakeProvider(jwk(RSA, "one"))
    verifier, sent = provider.verifier(), token()
    await verifier.verify(sent)
    provider.keys, provider.now = [jwk(OTHER_RSA, "two")], OLD_AFTER_S + 1

    async with asyncio.timeout(10):
        while verifier.known(sent) is not None:
            await asyncio.sleep(0)

    with pytest.raises(TokenNotValid):
        await verifier.verify(sent)


async def test_while_the_provider_is_away_the_known_keys_stay() -> None:
    provider = FakeProvider(jwk(RSA, "one"))
    verifier = provider.verifier()
    await verifier.verify(token())
    provider.keys, provider.now = None, OLD_AFTER_S + 1

    identity = await verifier.verify(token(sub="bob"))

    assert identity.subject == "bob"


async def test_a_provider_that_was_never_reached_is_unavailable_and_not_the_callers_fault() -> None:
    provider = FakeProvider()
    provider.keys = None

    with pytest.raises(Unavailable):
        await provider.verifier().verify(token())


@pytest.mark.parametrize("path", ["/elsewhere", "/large", "/wrong"])
async def test_an_answer_of_the_provider_that_is_a_redirect_or_too_large_or_an_error_is_not_used(path: str) -> None:
    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response({"/elsewhere": 302, "/large": 200}.get(self.path, 500))
            self.send_header("location", "/secret")
            self.end_headers()
            self.wfile.write(b"x" * (MAX_BYTES + 1))

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        serving = asyncio.create_task(asyncio.to_thread(server.serve_forever, 0.05))
        try:
            with pytest.raises((OSError, ValueError)):
                await asyncio.to_thread(fetch_document, f"http://127.0.0.1:{server.server_port}{path}")
        finally:
            server.shutdown()
            await serving

    assert asked == [path]


async def test_many_callers_wait_for_one_reading() -> None:
    provider = FakeProvider(jwk(RSA, "one"))
    verifier = provider.verifier()

    found = await asyncio.gather(*(verifier.verify(token(sub=str(n))) for n in range(10)))

    assert {identity.subject for identity in found} == {str(n) for n in range(10)}
    assert provider.asked == 1


async def test_an_elliptic_key_and_a_key_that_names_its_algorithm_verify() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    provider = FakeProvider(jwk(key, "ec"), jwk(RSA, "one", alg="RS256"), {"kty": "oct", "k": "AA", "kid": "hmac"})
    verifier = provider.verifier(("ES256", "RS256", "PS256"))

    elliptic = await verifier.verify(token(key, "ec", "ES256"))
    named = await verifier.verify(token())
    with pytest.raises(TokenNotValid):
        await verifier.verify(token(algorithm="PS256"))

    assert elliptic.subject == named.subject == "alice"


@pytest.mark.parametrize(
    ("claims", "path"),
    [
        ({"roles": "viewer engineer:a"}, "roles"),
        ({"realm_access": {"roles": ["viewer", "engineer:a"]}}, "realm_access.roles"),
        ({"https://everloop.example/roles": ["viewer", "engineer:a"]}, "https://everloop.example/roles"),
    ],
)
def test_roles_are_read_from_a_claim_by_its_path(claims: Mapping[str, Any], path: str) -> None:
    assert read_grants(claims, path) == (Grant("viewer"), Grant("engineer", ("a",)))


@pytest.mark.parametrize("claims", [{}, {"roles": 7}, {"roles": {"a": "b"}}, {"realm_access": "roles"}])
def test_a_claim_of_another_form_gives_no_role(claims: Mapping[str, Any]) -> None:
    assert read_grants(claims, "roles") == ()


@pytest.mark.parametrize("algorithms", ["HS256", "none", "RS256,HS512", ""])
def test_symmetric_algorithms_are_no_setting(algorithms: str) -> None:
    with pytest.raises(ValueError, match="is none of"):
        AccessSettings(auth_algorithms=algorithms)


@pytest.mark.parametrize("header", [None, b"", b"Basic YTpi", b"Bearer", b"Bearer " + b"a" * 9_000, b"Bearer \xff"])
async def test_a_header_without_a_readable_token_is_refused(header: bytes | None) -> None:
    with pytest.raises(NotAuthenticated):
        await Authenticator(None, None).identify(header)


@pytest.mark.parametrize(
    ("claims", "path", "team"),
    [
        ({"team": "risk"}, "team", "risk"),
        ({"https://x.example/team": "/Risk & Co"}, "https://x.example/team", None),
        ({"groups": ["/risk"]}, "groups", "/risk"),
        ({"groups": ["a", "b"]}, "groups", None),
        ({"org": {"team": "Prüfung 2"}}, "org.team", "Prüfung 2"),
        ({"team": "*"}, "team", None),
        ({"team": "x" * 101}, "team", None),
        ({"team": {"a": 1}}, "team", None),
        ({"team": "risk"}, "", None),
    ],
)
def test_a_claim_names_the_team_where_it_names_one(claims: dict[str, Any], path: str, team: str | None) -> None:
    assert read_team(claims, path) == team


async def test_a_token_that_is_verified_gives_the_team_too() -> None:
    provider = FakeProvider(jwk(RSA, "one"))
    keys = ProviderKeys(ISSUER, fetch=provider.fetch, timer=lambda: provider.now)
    verifier = TokenVerifier(Provider(ISSUER, AUDIENCE, ("RS256",), "", "roles", "org.team"), keys)

    first, again = [await verifier.verify(token(org={"team": "risk"})) for _ in range(2)]

    assert (first.team, again.team) == ("risk", "risk")
