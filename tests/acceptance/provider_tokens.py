"""Row 3: tokens that lie, and a provider's keys that are rotated."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.acceptance.doors import MINE, grpc_codes
from tests.acceptance.house import SERVICES, House, check

AUDIENCE = "everloop-acceptance"
ROTATED_WITHIN_S = 60.0


class Provider:
    """An OIDC provider that serves its discovery document and the keys it has now."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {"one": rsa.generate_private_key(65_537, 2_048)}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(provider.document(self.path)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def document(self, path: str) -> dict[str, Any]:
        """What it answers."""
        if path.endswith("openid-configuration"):
            return {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks"}
        described = [
            {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": name, "use": "sig"}
            for name, key in self.keys.items()
        ]
        return {"keys": described}

    def token(self, key: str = "one", algorithm: str = "RS256", **claims: Any) -> str:
        """A token that is right but for what is given."""
        right = {"iss": self.issuer, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 600, "roles": ["viewer"]}
        signed_by: Any = None if algorithm == "none" else self.keys.get(key) or next(iter(self.keys.values()))
        return jwt.encode(right | claims, signed_by, algorithm, headers={"kid": key})

    def token_by_public_key(self) -> str:
        """HS256, by the public key that everybody knows."""
        pem = (
            self.keys["one"]
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        claims = {"iss": self.issuer, "aud": AUDIENCE, "sub": "eve", "exp": time.time() + 600, "roles": ["admin"]}
        parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "one", "typ": "JWT"}, claims)]
        signed = b".".join(jwt.utils.base64url_encode(part) for part in parts)
        hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        return (signed + b"." + jwt.utils.base64url_encode(hmac.sign(signed, pem))).decode()


def tokens(house: House, provider: Provider) -> None:
    """Row 3: tokens that lie, and a key that is rotated."""
    everywhere: Callable[[str], set[int]] = lambda token: {  # noqa: E731
        house.ask("GET", house.url(s) + "/docs", token).status for s in SERVICES
    }
    check(everywhere(provider.token()) == {200}, "a right token is answered by all services")
    check(
        house.ask("GET", house.url("registry") + "/v1/loops", provider.token()).status == 200,
        "its role is read from the claim",
    )
    changed = house.ask(
        "PUT", house.url("registry") + f"/v1/loops/{MINE}", provider.token(), b"{}", content_type="application/json"
    )
    check(changed.status == 403, "what its role may not is refused", changed)
    lies = {
        "alg=none": provider.token(algorithm="none"),
        "HS256 with the public key": provider.token_by_public_key(),
        "a wrong audience": provider.token(aud="shop"),
        "a wrong issuer": provider.token(iss="https://evil.example"),
        "an expired token": provider.token(exp=time.time() - 120),
        "an unknown key id": provider.token(key="unknown"),
    }
    for what, token in lies.items():
        statuses, codes = everywhere(token), grpc_codes(house, token, ["/inference.GRPCInferenceService/ServerLive"])
        check((statuses, set(codes.values())) == ({401}, {"UNAUTHENTICATED"}), f"{what}: 401", (statuses, codes))
    provider.keys = {"two": rsa.generate_private_key(65_537, 2_048)}
    begin, rotated = time.monotonic(), provider.token(key="two")
    while everywhere(rotated) != {200} and time.monotonic() - begin < ROTATED_WITHIN_S:
        time.sleep(1)
    took = time.monotonic() - begin
    check(everywhere(rotated) == {200}, f"a rotated key works within {ROTATED_WITHIN_S:g} s (here {took:.0f} s)", took)
