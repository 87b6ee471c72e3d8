"""Fuzzed requests by HTTP: nearly right ones of a service's documents, odd ones, and bytes that are no request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.acceptance.fuzz_values import BODIES, ODD_TEXTS, RAW_PATH, Values, json_value, mutated, written

KNOWN: Mapping[str, Sequence[Any]] = {
    "loop": ("guarded", "guarded", "guarded", "fuzz-a", "fuzz-b"),
    "apiVersion": ("everloop/v1",),
    "version": ("0", "champion", "candidate", "logistic-regression-0@99"),
    "data": (*({"x": n / 8} for n in range(12)), {"x": None}, {"x": "1"}, {}, {"x": 1, "y": 2}),
    "time": ("2026-01-01T00:00:00Z", "2026-11-27T20:00:00.123456+02:00", "1970-01-01T00:00:00Z", "2026-01-01"),
    "specversion": ("1.0",),
    "label": (True, False, True, False, 1, "a"),
    "schema": ({"x": {"type": "number"}}, {"x": {"type": "integer"}}, {"x": {"type": "string"}}),
    "estimator": ("river.linear_model.LogisticRegression", "os.system", "sklearn.svm.SVC"),
    "id": ("r1", "r2", "r3", "f1"),
}
MLFLOW = (
    *("experiment_id", "run_id", "run_uuid", "name", "key", "value", "tags", "params", "metrics", "timestamp", "step"),
    *("experiment_ids", "filter", "max_results", "page_token", "order_by", "lifecycle_stage", "artifact_path", "path"),
    *("run_name", "user_id", "start_time", "end_time", "status", "source", "model_id", "stages", "alias", "version"),
    *("model_type", "datasets", "models", "new_name", "view_type", "artifact_location", "description"),
)
KINDS = (
    *("application/json", "application/yaml", "text/csv", "application/x-ndjson", "application/octet-stream", ""),
    *("application/onnx", "application/cloudevents+json", "application/cloudevents-batch+json", "text/plain"),
    *("application/json; charset=utf-16", "a/b; charset=\xff", "x" * 3_000, "multipart/form-data; boundary=x"),
)
ODD_HEADERS = (
    *("Timeout-Ms", "If-Match", "If-None-Match", "everloop-manifest", "traceparent", "tracestate", "Range", "Accept"),
    *("Inference-Header-Content-Length", "ce-id", "ce-type", "ce-specversion", "ce-time", "Cookie", "X-Forwarded-For"),
    *("Content-Encoding", "X-HTTP-Method-Override", "Accept-Encoding", "Idempotency-Key"),
)
HEADER_VALUES = (
    *("0", "-1", "1", "1e9", "9" * 400, "*", '"1"', "gzip", "deflate, br", "bytes=0-5", "é", "x" * 5_000, "1.0"),
    *("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "{}", '{"format": "onnx"}', "NaN"),
)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW")
RARE = ("/livez", "/readyz", "/metrics", "/v1/loops/{loop}/subjects/{entity}")
"""Of the process, and what reads whole topics to answer (a second each)."""


class Request(NamedTuple):
    """A request with its body; headers as they are sent."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def wire(self, host: str, token: str) -> bytes:
        """Its bytes."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"host: {host}"]
        lines += [f"authorization: Bearer {token}"] if token else []
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n" + self.body


class Route(NamedTuple):
    """A method and a path, with what its OpenAPI document says, if it has one."""

    method: str
    path: str
    described: Mapping[str, Any]


class Requests:
    """Fuzzed requests to some routes of a service; the same seed gives the same ones."""

    def __init__(self, routes: Sequence[Route], document: Mapping[str, Any], rng: Random) -> None:
        self.routes, self.rng = routes, rng
        self._weights = [1 if r.path in RARE else 20 if r.described.get("requestBody") else 10 for r in routes]
        self.values = Values(document, rng, KNOWN)

    def __iter__(self) -> Iterator[Request]:
        rng = self.rng
        while True:
            [route] = rng.choices(self.routes, self._weights)
            self.values.odd = rng.choice((0.0, 0.0, 0.02, 0.1, 0.4))
            method = rng.choice(METHODS) if rng.random() < 0.05 else route.method
            if method == "DELETE" != route.method:  # the loop that all doors are tried with stays
                method = "GET"
            kind, body = self._body(route)
            headers = [("content-type", kind)] if kind else []
            headers += [(p["name"], self._word(p)) for p in self._parameters(route, "header") if rng.random() < 0.5]
            if rng.random() < 0.1:
                headers.append((rng.choice(ODD_HEADERS), rng.choice(HEADER_VALUES)))
            yield Request(method, self._target(route), tuple(headers), body)

    def _parameters(self, route: Route, where: str) -> list[Mapping[str, Any]]:
        return [p for p in route.described.get("parameters", ()) if p["in"] == where]

    def _word(self, parameter: Mapping[str, Any]) -> str:
        value = self.values.of(parameter.get("schema", {}), parameter["name"])
        text = value if isinstance(value, str) else json.dumps(value)
        return text.replace("\n", "").replace("\r", "")

    def _target(self, route: Route) -> str:
        rng, path = self.rng, route.path
        while "{" in path:
            before, _, rest = path.partition("{")
            name, _, after = rest.partition("}")
            path = before + self._place(name, route) + after
        asked = [f"{p['name']}={quote(self._word(p))}" for p in self._parameters(route, "query") if rng.random() < 0.6]
        if "/mlflow" in path and rng.random() < 0.7:
            asked += [f"{rng.choice(MLFLOW)}={quote(rng.choice(ODD_TEXTS))}" for _ in range(rng.randint(1, 3))]
        if rng.random() < 0.1:
            asked.append(f"{rng.choice(('limit', 'x', '%00', 'as_of'))}={quote(rng.choice(ODD_TEXTS))}")
        return path + ("?" + "&".join(asked) if asked else "")

    def _place(self, name: str, route: Route) -> str:
        rng, name = self.rng, name.removesuffix(":path")
        if name == "loop":  # a loop that is there stays there, so that the doors behind it do
            usual = ("fuzz-a", "fuzz-b") if route.method == "DELETE" else KNOWN["loop"]
        else:
            usual = KNOWN.get(name, ("n1", "r1", "12345678-1234-5678-9234-567812345678"))
        if rng.random() < 0.85:
            return quote(str(rng.choice(usual)), safe="@")
        return rng.choice([quote(word, safe="") for word in ODD_TEXTS] + list(RAW_PATH))

    def _body(self, route: Route) -> tuple[str, bytes]:
        rng = self.rng
        content = route.described.get("requestBody", {}).get("content", {})
        if not content and "/mlflow" not in route.path:
            return ("", b"") if rng.random() < 0.9 else (rng.choice(KINDS), rng.choice(BODIES))
        kind = rng.choice(list(content) or ["application/json"])
        body = self._right(kind, content.get(_as_json(kind), {}).get("schema"), route)
        way = rng.random()
        if way < 0.25:
            body = mutated(rng, body)
        elif way < 0.35:
            body = rng.choice(BODIES)
        return (rng.choice(KINDS) if rng.random() < 0.07 else kind), body

    def _right(self, kind: str, schema: Any, route: Route) -> bytes:
        rng = self.rng
        if schema is None and "/mlflow" in route.path:
            pairs = (f'"{key}": {self._mlflow_value()}' for key in rng.sample(MLFLOW, rng.randint(1, 6)))
            return ("{" + ", ".join(pairs) + "}").encode()
        if kind == "application/x-ndjson":
            lines = (written(self.values.of(_item(schema))) for _ in range(rng.randint(1, 20)))
            return "\n".join(lines).encode("utf-8", "replace")
        if kind in ("application/json", "application/yaml"):
            return written(self.values.of(schema or {})).encode("utf-8", "replace")
        return rng.choice(BODIES) or rng.randbytes(rng.randint(1, 3_000))

    def _mlflow_value(self) -> str:
        rng = self.rng
        pair = f'{{"key": {json_value(rng)}, "value": {json_value(rng)}, "timestamp": 1, "step": 0}}'
        usual = ('"0"', '"guarded"', '"1"', "1", f"[{pair}]", pair, '["0"]', "\"name = 'guarded'\"", '"ACTIVE_ONLY"')
        return rng.choice(usual) if rng.random() < 0.6 else json_value(rng)


def _as_json(kind: str) -> str:
    return "application/json" if kind == "application/x-ndjson" else kind


def _item(schema: Any) -> Any:
    """What one line of a list is: a document describes lists of things, and the things."""
    found = schema or {}
    return next((one for one in found.get("anyOf", ()) if "$ref" in one), found)


def malformed(rng: Random, host: str, token: str, paths: Sequence[str]) -> bytes:
    """Bytes that are nearly a request by HTTP/1.1."""
    path, line = rng.choice(paths), f"host: {host}\r\nauthorization: Bearer {token}\r\n"
    json_kind = "content-type: application/json\r\n"
    shapes = (
        f"GET {path}\r\n\r\n",
        f"GET {path} HTTP/9.9\r\n{line}\r\n",
        f"GET {path} HTTP/1.1\r\n\r\n",
        f"GET {path} HTTP/1.1\r\n{line}{line}\r\n",
        f"GET http://evil.example{path} HTTP/1.1\r\n{line}\r\n",
        f"GET {path}\x00 HTTP/1.1\r\n{line}\r\n",
        f"GET {path} HTTP/1.1\n{line}\n",
        f"GET {path} HTTP/1.1\r\n{line}x: {'y' * rng.choice((10, 70_000))}\r\n\r\n",
        f"GET {path}?{'a=b&' * rng.choice((1, 30_000))} HTTP/1.1\r\n{line}\r\n",
        f"GET {path} HTTP/1.1\r\n{line}" + "h: v\r\n" * rng.choice((1, 5_000)) + "\r\n",
        f"POST {path} HTTP/1.1\r\n{line}{json_kind}content-length: 5\r\ncontent-length: 6\r\n\r\n{{}}",
        f"POST {path} HTTP/1.1\r\n{line}{json_kind}content-length: -1\r\n\r\n{{}}",
        f"POST {path} HTTP/1.1\r\n{line}{json_kind}content-length: 99999999999999\r\n\r\n{{}}",
        f"POST {path} HTTP/1.1\r\n{line}{json_kind}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        f"POST {path} HTTP/1.1\r\n{line}{json_kind}transfer-encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n",
        f"POST {path} HTTP/1.1\r\n{line}{json_kind}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n{{}}",
        f"POST {path} HTTP/1.1\r\n{line}{json_kind}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        f"POST {path} HTTP/1.1\r\n{line}{json_kind}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nx: y\r\n\r\n",
        f"POST {path} HTTP/1.1\r\n{line}{json_kind}expect: 100-continue\r\ncontent-length: 2\r\n\r\n{{}}",
        f"GET {path} HTTP/1.1\r\n{line}upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: x\r\n\r\n",
        f"GET {path} HTTP/1.1\r\n{line}upgrade: h2c\r\nconnection: upgrade\r\nhttp2-settings: AA\r\n\r\n",
        f"GET {path} HTTP/1.1\r\n{line} folded: x\r\n\r\n",
        f"GET {path} HTTP/1.1\r\n{line}bad name: x\r\n\r\n",
        f"GET {path} HTTP/1.1\r\n{line}\r\nGET {path} HTTP/1.1\r\n{line}\r\n" * rng.randint(1, 3),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "\r\n" * rng.randint(1, 2_000),
    )
    made = rng.choice(shapes).encode("latin-1", "replace")
    return mutated(rng, made) if rng.random() < 0.5 else made
