#!/usr/bin/env python3
"""Black-box acceptance of a guarded installation: who may do what, from outside, on real Kafka.

Run from the project's root with the project's interpreter, after its own set-up:

    .venv/bin/python tests/acceptance/guarded.py [--keep] [--only NAME ...]

It starts an installation by `everloop up --auth` in a fresh folder, with an OIDC provider of its own beside it, and
knocks at every door of every service. Each check prints one line; the last line counts them; exit 1 if any failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SERVICES = ("ingest", "feature", "training", "registry", "serving", "monitoring")
OPEN = ("/livez", "/readyz")
MINE, OTHERS, EXISTING = "churn-none", "fraud-none", "guarded"
AUDIENCE = "everloop-acceptance"
SPEC = """
apiVersion: everloop/v1
loop: guarded
task: binary
schema: {x: {type: number}}
features: [{fields: all}]
label: {type: boolean, within: 7d}
models: [{preset: logistic}]
metric: accuracy
"""
CHANGES = ("POST", "PUT", "PATCH", "DELETE")
ROTATED_WITHIN_S = 60.0
KNOWN_WITHIN_S = 1.2
"""A change of the file of keys takes effect within a second."""
results: list[tuple[bool, str]] = []


class Answer(NamedTuple):
    """Status, headers and body of an answer."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def code(self) -> str:
        """The code of a problem; empty for another body."""
        try:
            return str(json.loads(self.body).get("code", ""))
        except (ValueError, AttributeError):
            return ""


class Operation(NamedTuple):
    """A method and a path of an OpenAPI document."""

    service: str
    method: str
    path: str
    content_type: str

    def path_for(self, loop: str) -> str:
        """The path with this loop, and with something that is not there in place of the rest."""
        return re.sub(r"\{[^}]*\}", "none", re.sub(r"\{loop\}", loop, self.path))


def check(ok: object, what: str, seen: object = "") -> bool:
    """Print one line, and remember it."""
    results.append((bool(ok), what))
    told = f"   [{str(seen)[:400]}]" if seen != "" and not ok else ""
    sys.stdout.write(f"{'ok  ' if ok else 'FAIL'} {what}{told}\n")
    sys.stdout.flush()
    return bool(ok)


def everloop(*args: str, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    """The command of the project, as a person calls it."""
    command = [str(Path(sys.executable).with_name("everloop")), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=HOME, env={**ENV, **env})


def url(service: str) -> str:
    """The address of a service."""
    return str(json.loads((HOME / "services.json").read_text())[service]["url"])


def ask(method: str, address: str, token: str | None = None, body: bytes | None = None, **headers: str) -> Answer:
    """Send a request; headers by their names with an underscore for each hyphen."""
    sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
    if token:
        sent["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(address, data=body, method=method, headers=sent)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(request, timeout=60) as got:
            return Answer(
                got.status, {k.lower(): v for k, v in got.headers.items()}, got.read().decode(errors="replace")
            )
    except urllib.error.HTTPError as e:
        return Answer(e.code, {k.lower(): v for k, v in e.headers.items()}, e.read().decode(errors="replace"))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def call(operation: Operation, loop: str, token: str | None = None) -> Answer:
    """Send an operation with an empty object, or without a body where it reads none."""
    body = b"{}" if operation.method in CHANGES else None
    address = url(operation.service) + operation.path_for(loop)
    return ask(operation.method, address, token, body, content_type=operation.content_type if body else "")


def operations() -> list[Operation]:
    """Every method and path of the six OpenAPI documents."""
    found = []
    for service in SERVICES:
        document = json.loads(ask("GET", url(service) + "/openapi.json", owner()).body)
        for path, methods in document["paths"].items():
            for method, described in methods.items():
                kinds = list(described.get("requestBody", {}).get("content", {"application/json": {}}))
                kind = "application/json" if "application/json" in kinds else kinds[0]
                found.append(Operation(service, method.upper(), path, kind))
    return found


def owner() -> str:
    """The token that `up --auth` leaves."""
    return (HOME / "token").read_text().strip()


def make_key(role: str, loops: str = "*", *more: str) -> str:
    """The token of a new key."""
    done = everloop("keys", "create", f"{role}-of-{loops}", "--role", role, "--loops", loops, "--json", *more)
    return str(json.loads(done.stdout)["token"])


def matrix() -> dict[str, Any]:
    """What `everloop roles` prints for programs."""
    return dict(json.loads(everloop("roles", "--json").stdout))


def grpc_codes(token: str | None, methods: list[str]) -> dict[str, str]:
    """How a call of each method with an empty message ends."""
    address = json.loads((HOME / "services.json").read_text())["serving"]["grpc"]
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    codes = {}
    with grpc.insecure_channel(address) as channel:
        for method in methods:
            streams = method.endswith(("Watch", "ServerReflectionInfo"))
            stub: Any = channel.unary_stream if streams else channel.unary_unary
            try:
                answer = stub(method)(b"", metadata=metadata, timeout=10)
                if method.endswith("Watch"):
                    next(answer)
                    answer.cancel()
                elif method.endswith("ServerReflectionInfo"):
                    list(answer)
                codes[method] = "OK"
            except grpc.RpcError as e:
                codes[method] = str(e.code().name)
    return codes


def without_token() -> None:
    """Row 1: every path and method, and every gRPC method, without a token."""
    found, told = operations(), matrix()
    wrong = [
        (o.service, o.method, o.path, status)
        for o in found
        if (status := call(o, MINE).status) != (200 if o.path in OPEN else 401)
    ]
    check(
        len(found) > 60 and not wrong,
        f"{len(found)} operations of six documents: 401 but for liveness, readiness",
        wrong,
    )
    beside = ("/docs", "/openapi.json", "/metrics", "/api/2.0/mlflow/experiments/search", "/nothing")
    shut = {(s, p): ask("GET", url(s) + p).status for s in SERVICES for p in beside}
    check(set(shut.values()) == {401}, "what no document names answers 401, too", shut)
    answer = ask("GET", url("registry") + "/v1/loops")
    check(answer.headers.get("www-authenticate") == "Bearer", "401 says WWW-Authenticate: Bearer", answer.headers)
    check(answer.headers.get("content-type") == "application/problem+json", "401 is a problem (RFC 9457)", answer.body)
    methods = [row["path"] for row in told["routes"] if row["method"] == "gRPC"]
    health = [path for path in told["open"] if path.startswith("/grpc.health")]
    codes = grpc_codes(None, [*methods, *health])
    check({codes[m] for m in methods} == {"UNAUTHENTICATED"}, f"{len(methods)} gRPC methods are refused", codes)
    check({codes[m] for m in health} == {"OK"}, "gRPC's health answers", codes)


def by_role() -> None:
    """Row 2: each role's token against the printed matrix; another loop's token."""
    found, told = operations(), matrix()
    rows = {(r["service"], r["method"], r["path"]): r for r in told["routes"]}
    # OpenAPI has no path converters: {entity:path} is {entity} there
    rows |= {(s, m, p.replace(":path", "")): row for (s, m, p), row in rows.items()}
    guarded = [o for o in found if o.path not in OPEN]
    missing = [o for o in guarded if (o.service, o.method, o.path) not in rows]
    if not check(not missing, "every operation is in the printed matrix", missing):
        return
    for role in told["roles"]:
        token, wrong = make_key(role), []
        time.sleep(KNOWN_WITHIN_S)
        for o in guarded:
            may = role in told["actions"][rows[o.service, o.method, o.path]["action"]]
            answer = call(o, MINE, token)
            refused = answer.status == 401 or (answer.status, answer.code) == (403, "not_permitted")
            if refused == may:
                wrong.append((o.service, o.method, o.path, answer.status, answer.code))
        check(not wrong, f"{role}: {len(guarded)} operations as the matrix says", wrong)
    token, wrong = make_key("admin", "churn-*"), []
    time.sleep(KNOWN_WITHIN_S)
    for o in [o for o in guarded if "{loop}" in o.path]:
        mine, others = call(o, MINE, token), call(o, OTHERS, token)
        if mine.code == "not_permitted" or (others.status, others.code) != (403, "not_permitted"):
            wrong.append((o.service, o.method, o.path, mine.status, str(others.status)))
    check(not wrong, "a token for churn-*: 403 for another loop, everywhere", wrong)
    listed = json.loads(ask("GET", url("registry") + "/v1/loops", token).body)["loops"]
    check(listed == [], "a list of loops has none of another's", listed)
    refusal = json.loads(ask("GET", url("registry") + f"/v1/loops/{OTHERS}", token).body)["detail"]
    named = all(part in refusal for part in ("admin-of-churn-*", "loops.read", OTHERS, "viewer"))
    check(named, "403 names caller, action, loop and roles", refusal)


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


def tokens() -> None:
    """Row 3: tokens that lie, and a key that is rotated."""
    everywhere: Callable[[str], set[int]] = lambda token: {  # noqa: E731
        ask("GET", url(s) + "/docs", token).status for s in SERVICES
    }
    check(everywhere(PROVIDER.token()) == {200}, "a right token is answered by all services")
    check(ask("GET", url("registry") + "/v1/loops", PROVIDER.token()).status == 200, "its role is read from the claim")
    changed = ask(
        "PUT", url("registry") + f"/v1/loops/{MINE}", PROVIDER.token(), b"{}", content_type="application/json"
    )
    check(changed.status == 403, "what its role may not is refused", changed)
    lies = {
        "alg=none": PROVIDER.token(algorithm="none"),
        "HS256 with the public key": PROVIDER.token_by_public_key(),
        "a wrong audience": PROVIDER.token(aud="shop"),
        "a wrong issuer": PROVIDER.token(iss="https://evil.example"),
        "an expired token": PROVIDER.token(exp=time.time() - 120),
        "an unknown key id": PROVIDER.token(key="unknown"),
    }
    for what, token in lies.items():
        statuses, codes = everywhere(token), grpc_codes(token, ["/inference.GRPCInferenceService/ServerLive"])
        check((statuses, set(codes.values())) == ({401}, {"UNAUTHENTICATED"}), f"{what}: 401", (statuses, codes))
    PROVIDER.keys = {"two": rsa.generate_private_key(65_537, 2_048)}
    begin, rotated = time.monotonic(), PROVIDER.token(key="two")
    while everywhere(rotated) != {200} and time.monotonic() - begin < ROTATED_WITHIN_S:
        time.sleep(1)
    took = time.monotonic() - begin
    check(everywhere(rotated) == {200}, f"a rotated key works within {ROTATED_WITHIN_S:g} s (here {took:.0f} s)", took)


def origins() -> None:
    """Row 4: a valid token with a foreign Host, a foreign Origin, `text/plain`, no content type."""
    file = HOME / "guarded.yaml"
    file.write_text(SPEC)
    done = everloop("apply", "-f", str(file))
    check(done.returncode == 0, "everloop apply finds the token by itself", done.stderr)
    before = ask("GET", url("registry") + f"/v1/loops/{EXISTING}/history", owner()).body
    doors = [
        ("POST", url("ingest") + f"/v1/loops/{EXISTING}/events", b'{"data": {"x": 1}}'),
        ("POST", url("serving") + f"/v1/loops/{EXISTING}/predict", b'{"data": {"x": 1}}'),
        ("POST", url("registry") + f"/v1/loops/{EXISTING}/rollback", b'{"reason": "none"}'),
        ("POST", url("training") + f"/v1/loops/{EXISTING}/runs", b'{"reason": "none"}'),
        ("POST", url("monitoring") + f"/v1/loops/{EXISTING}/silences", b'{"reason": "none", "for": "1h"}'),
    ]
    cases: dict[str, tuple[dict[str, str], tuple[int, ...]]] = {
        "a foreign Host": ({"host": "rebind.evil.example", "content_type": "application/json"}, (403, 421)),
        "a foreign Origin": ({"origin": "https://evil.example", "content_type": "application/json"}, (403,)),
        "text/plain": ({"content_type": "text/plain"}, (415,)),
        "no content type": ({}, (415,)),
    }
    for what, (headers, expected) in cases.items():
        codes = [_raw(method, address, body, headers) for method, address, body in doors]
        check(set(codes) <= set(expected), f"a valid token and {what}: {expected[0]}", codes)
    after = ask("GET", url("registry") + f"/v1/loops/{EXISTING}/history", owner()).body
    status = json.loads(everloop("status", EXISTING, "--json").stdout)
    check(before == after, "nothing was decided", after[-300:])
    check((status["events"], status["predictions"]) == (0, 0), "nothing was published", status)


def _raw(method: str, address: str, body: bytes, headers: dict[str, str]) -> int:
    """The status, by http.client: urllib gives a body a content type of its own."""
    from http.client import HTTPConnection

    host, _, rest = address.removeprefix("http://").partition("/")
    connection = HTTPConnection(host, timeout=30)
    try:
        connection.putrequest(method, f"/{rest}", skip_host="host" in headers)
        sent = {**headers, "authorization": f"Bearer {owner()}", "content-length": str(len(body))}
        for name, value in sent.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()


def limits() -> None:
    """A key with a limit is refused by every service once it has used it, and another one is answered."""
    noisy, calm = make_key("engineer", "*", "--limit", "requests_per_s=0.01"), make_key("viewer")
    time.sleep(KNOWN_WITHIN_S)
    for service in SERVICES:
        first, refused, other = (ask("GET", url(service) + "/openapi.json", key) for key in (noisy, noisy, calm))
        codes = (first.status, refused.status, other.status)
        check(
            codes == (200, 429, 200), f"{service}: a second request of a key with a limit is 429, another's 200", codes
        )
        told = refused.code, int(refused.headers.get("retry-after", "0")) > 1, "requests_per_s" in refused.body
        check(told == ("caller_limited", True, True), f"{service}: the refusal says which limit, and when again", told)
    methods = ["/inference.GRPCInferenceService/ServerLive"]
    spent = make_key("predictor", "*", "--limit", "requests_per_s=0.01")
    time.sleep(KNOWN_WITHIN_S)
    codes_of = [list(grpc_codes(key, methods).values()) for key in (spent, spent, calm)]
    check("RESOURCE_EXHAUSTED" not in codes_of[0] + codes_of[2], "gRPC: within the limit, and another", codes_of)
    check(codes_of[1] == ["RESOURCE_EXHAUSTED"], "gRPC: a second call is RESOURCE_EXHAUSTED", codes_of)


def secrets() -> None:
    """No token stands in a log, in services.json, in the file of keys, or in what `ps` shows."""
    files = [file for file in HOME.rglob("*") if file.is_file() and file.stat().st_size < 50_000_000]
    named = ("token", "serving.token")
    found = [str(file) for file in files if owner().encode() in file.read_bytes() and file.name not in named]
    check(not found, "no file but the token's own has the token", found)
    check((HOME / "token").stat().st_mode & 0o777 == 0o600, "its owner alone reads it")
    shown = list(_process_texts())
    check(shown and not any(owner().encode() in text for text in shown), "no process shows it")


def _process_texts() -> Iterator[bytes]:
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            except OSError:
                continue
            if str(HOME).encode() in text:
                yield text


def up() -> bool:
    """Start it."""
    begin = time.monotonic()
    done = everloop("up", "--auth", "--data", str(HOME), "--ports", "auto", "--detach", timeout=400)
    sys.stdout.write(f"     up took {time.monotonic() - begin:.1f} s\n")
    return check(done.returncode == 0, "an installation starts by everloop up --auth", done.stderr[-400:])


if __name__ == "__main__":
    stages = {f.__name__: f for f in (without_token, by_role, tokens, origins, limits, secrets)}
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look")
    parser.add_argument("--only", nargs="*", choices=list(stages), default=list(stages))
    chosen = parser.parse_args()
    HOME, PROVIDER = Path(tempfile.mkdtemp(prefix="everloop-guarded-")), Provider()
    ENV = {name: value for name, value in os.environ.items() if not name.startswith("EVERLOOP_")} | {
        "NO_COLOR": "1",
        "EVERLOOP_DATA": str(HOME),
        "EVERLOOP_AUTH_ISSUER": PROVIDER.issuer,
        "EVERLOOP_AUTH_AUDIENCE": AUDIENCE,
    }
    try:
        if up():
            for name in chosen.only:
                sys.stdout.write(f"-- {name}\n")
                try:
                    stages[name]()
                except Exception as e:  # a stage that breaks is a failed check; the next one still runs
                    check(False, f"{name} ran to its end", repr(e))
    finally:
        everloop("down", "--data", str(HOME))
        PROVIDER.server.shutdown()
        if not chosen.keep:
            shutil.rmtree(HOME, ignore_errors=True)
    failed = [what for ok, what in results if not ok]
    sys.stdout.write(f"{len(results) - len(failed)} passed, {len(failed)} failed\n")
    sys.exit(bool(failed))
