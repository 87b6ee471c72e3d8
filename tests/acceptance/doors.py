"""Rows 1, 2 and 4: every door without a token, by each role, and from where it should not be knocked at."""

from __future__ import annotations

import json
import re
import time
from http.client import HTTPConnection
from typing import Any, NamedTuple

import grpc
from tests.acceptance.house import KNOWN_WITHIN_S, OPEN, SERVICES, Answer, House, check

MINE, OTHERS, EXISTING = "churn-none", "fraud-none", "guarded"
SPEC = """
task: binary
schema: {x: {type: number}}
features: [{fields: all}]
label: {type: boolean, within: 7d}
models: [{preset: logistic}]
metric: accuracy
"""
CHANGES = ("POST", "PUT", "PATCH", "DELETE")


class Operation(NamedTuple):
    """A method and a path of an OpenAPI document."""

    service: str
    method: str
    path: str
    content_type: str

    def path_for(self, loop: str) -> str:
        """The path with this loop, and with something that is not there in place of the rest."""
        return re.sub(r"\{[^}]*\}", "none", re.sub(r"\{loop\}", loop, self.path))


def call(house: House, operation: Operation, loop: str, token: str | None = None) -> Answer:
    """Send an operation with an empty object, or without a body where it reads none."""
    body = b"{}" if operation.method in CHANGES else None
    address = house.url(operation.service) + operation.path_for(loop)
    return house.ask(operation.method, address, token, body, content_type=operation.content_type if body else "")


def operations(house: House) -> list[Operation]:
    """Every method and path of the six OpenAPI documents."""
    found = []
    for service in SERVICES:
        document = json.loads(house.ask("GET", house.url(service) + "/openapi.json", house.owner()).body)
        for path, methods in document["paths"].items():
            for method, described in methods.items():
                kinds = list(described.get("requestBody", {}).get("content", {"application/json": {}}))
                kind = "application/json" if "application/json" in kinds else kinds[0]
                found.append(Operation(service, method.upper(), path, kind))
    return found


def grpc_codes(house: House, token: str | None, methods: list[str]) -> dict[str, str]:
    """How a call of each method with an empty message ends."""
    address = json.loads((house.folder / "services.json").read_text())["serving"]["grpc"]
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


def without_token(house: House) -> None:
    """Row 1: every path and method, and every gRPC method, without a token."""
    found, told = operations(house), house.matrix()
    wrong = [
        (o.service, o.method, o.path, status)
        for o in found
        if (status := call(house, o, MINE).status) != (200 if o.path in OPEN else 401)
    ]
    check(
        len(found) > 60 and not wrong,
        f"{len(found)} operations of six documents: 401 but for liveness, readiness",
        wrong,
    )
    beside = ("/docs", "/openapi.json", "/metrics", "/api/2.0/mlflow/experiments/search", "/nothing")
    shut = {(s, p): house.ask("GET", house.url(s) + p).status for s in SERVICES for p in beside}
    check(set(shut.values()) == {401}, "what no document names answers 401, too", shut)
    answer = house.ask("GET", house.url("registry") + "/v1/loops")
    check(answer.headers.get("www-authenticate") == "Bearer", "401 says WWW-Authenticate: Bearer", answer.headers)
    check(answer.headers.get("content-type") == "application/problem+json", "401 is a problem (RFC 9457)", answer.body)
    methods = [row["path"] for row in told["routes"] if row["method"] == "gRPC"]
    health = [path for path in told["open"] if path.startswith("/grpc.health")]
    codes = grpc_codes(house, None, [*methods, *health])
    check({codes[m] for m in methods} == {"UNAUTHENTICATED"}, f"{len(methods)} gRPC methods are refused", codes)
    check({codes[m] for m in health} == {"OK"}, "gRPC's health answers", codes)


def by_role(house: House) -> None:
    """Row 2: each role's token against the printed matrix; another loop's token."""
    found, told = operations(house), house.matrix()
    rows = {(r["service"], r["method"], r["path"]): r for r in told["routes"]}
    # OpenAPI has no path converters: {entity:path} is {entity} there
    rows |= {(s, m, p.replace(":path", "")): row for (s, m, p), row in rows.items()}
    guarded = [o for o in found if o.path not in OPEN]
    missing = [o for o in guarded if (o.service, o.method, o.path) not in rows]
    if not check(not missing, "every operation is in the printed matrix", missing):
        return
    for role in told["roles"]:
        token, wrong = house.make_key(role), []
        time.sleep(KNOWN_WITHIN_S)
        for o in guarded:
            may = role in told["actions"][rows[o.service, o.method, o.path]["action"]]
            answer = call(house, o, MINE, token)
            refused = answer.status == 401 or (answer.status, answer.code) == (403, "not_permitted")
            if refused == may:
                wrong.append((o.service, o.method, o.path, answer.status, answer.code))
        check(not wrong, f"{role}: {len(guarded)} operations as the matrix says", wrong)
    token, wrong = house.make_key("admin", "churn-*"), []
    time.sleep(KNOWN_WITHIN_S)
    for o in [o for o in guarded if "{loop}" in o.path]:
        mine, others = call(house, o, MINE, token), call(house, o, OTHERS, token)
        if mine.code == "not_permitted" or (others.status, others.code) != (403, "not_permitted"):
            wrong.append((o.service, o.method, o.path, mine.status, str(others.status)))
    check(not wrong, "a token for churn-*: 403 for another loop, everywhere", wrong)
    listed = json.loads(house.ask("GET", house.url("registry") + "/v1/loops", token).body)["loops"]
    check(listed == [], "a list of loops has none of another's", listed)
    refusal = json.loads(house.ask("GET", house.url("registry") + f"/v1/loops/{OTHERS}", token).body)["detail"]
    named = all(part in refusal for part in ("admin-of-churn-*", "loops.read", OTHERS, "viewer"))
    check(named, "403 names caller, action, loop and roles", refusal)


def origins(house: House) -> None:
    """Row 4: a valid token with a foreign Host, a foreign Origin, `text/plain`, no content type."""
    check(house.apply(EXISTING, SPEC), "everloop apply finds the token by itself")
    before = house.tell("GET", "registry", f"/v1/loops/{EXISTING}/history").body
    found = [o for o in operations(house) if o.path not in OPEN]
    changes = [o for o in found if o.method in CHANGES]
    written = [o for o in changes if o.method != "DELETE"]
    named = [o for o in written if not o.path.startswith("/v2")]  # stock clients of the protocol send no content type
    cases: dict[str, tuple[list[Operation], dict[str, str], tuple[int, ...]]] = {
        "a foreign Host": (found, {"host": "rebind.evil.example"}, (403,)),
        "a foreign Origin": (changes, {"origin": "https://evil.example"}, (403,)),
        "text/plain": (written, {"content_type": "text/plain"}, (415,)),
        "no content type": (named, {"content_type": ""}, (415,)),
        "no content type, by a browser": (written, {"content_type": "", "user_agent": "Mozilla/5.0"}, (415,)),
    }
    for what, (tried, headers, expected) in cases.items():
        codes = {o: _raw(house, o, {"content_type": o.content_type} | headers) for o in tried}
        wrong = [(o.service, o.method, o.path, code) for o, code in codes.items() if code not in expected]
        check(not wrong, f"a valid token and {what}: {expected[0]} by {len(codes)} operations", wrong)
        services = {o.service for o in tried} | ({"feature"} if what != "a foreign Host" else set())
        check(services == set(SERVICES), f"{what}: all six services, where they have such a route", services)
    after = house.tell("GET", "registry", f"/v1/loops/{EXISTING}/history").body
    status = json.loads(house.everloop("status", EXISTING, "--json").stdout)
    check(before == after, "nothing was decided", after[-300:])
    check((status["events"], status["predictions"]) == (0, 0), "nothing was published", status)


def _raw(house: House, operation: Operation, headers: dict[str, str]) -> int:
    """The status, by http.client: urllib gives a body a content type of its own."""
    address = house.url(operation.service).removeprefix("http://")
    connection, body = HTTPConnection(address, timeout=30), b"{}" if operation.method in CHANGES else b""
    try:
        connection.putrequest(operation.method, operation.path_for(EXISTING), skip_host="host" in headers)
        sent = {**headers, "authorization": f"Bearer {house.owner()}", "content-length": str(len(body))}
        for name, value in sent.items():
            if value:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()
