"""Values for fuzzed requests: what a JSON schema asks for, what it does not, and bytes that were right before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

NINES = "9" * 400
ODD_TEXTS: Sequence[str] = (
    *("", " ", "0", "-1", "é", "🐘", "..", "../../etc/passwd", "a/b", "*", "null", "NaN", "a-0@1", "x" * 3_000, NINES),
    *("1e999", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00Z", "true", "0x10"),
    *("a\u0000b", "\u0007", "\u202e", "%s%n", "${jndi:ldap://127.0.0.1/a}", "{{7*7}}", "'; DROP TABLE loops; --"),
    *("<script>alert(1)</script>", "http://127.0.0.1:1/", "file:///etc/passwd", "__class__", "1_000", "Infinity"),
)
ODD_JSON: Sequence[str] = (
    *('"\\ud800"', '"a\\u0000b"', '""', "null", "[]", "{}", "true", "7", "-1", "0", "1e308", "-1e308", "1e999", NINES),
    *('"é"', '"../.."', "[[[[]]]]", '{"a": {"a": {}}}', "NaN", "Infinity", "0.1", "-0.0", "9223372036854775808"),
    *('"2026-01-01"', "18446744073709551616", "4.9e-324", '"' + "x" * 5_000 + '"', "[" + "1," * 500 + "1]"),
)
BODIES: Sequence[bytes] = (
    *(b"", b"[", b'"', b"[" * 50_000, b'{"a":' * 2_000, b"\xef\xbb\xbf{}", b"{}", b"[]", b"null", b"\x00"),
    *(b"id,x\n1,2\n", b"a: [", b"a: &a [*a]", b"7" * 5_000, b"\xff\xfe{\x00}\x00", b"\n" * 1_000, b"\x80\x04N."),
    *(b"PK\x03\x04", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", b"\x08\x07\x12\x00", b'{"x": 1, "x": 2}'),
)
RAW_PATH = ("%00", "%ff", "%ed%a0%80", "%0a", "%", "%zz", "%F0%9F%90%98", "%2e%2e%2f", "..;", "%c0%ae", "a%2Fb", "+")
DEPTH = 5


class Values:
    """Values of the schemas of one OpenAPI document; `odd` is the share of those that are something else."""

    def __init__(self, document: Mapping[str, Any], rng: Random, known: Mapping[str, Sequence[Any]]) -> None:
        self.document, self.rng, self.known = document, rng, known
        self.odd = 0.0

    def of(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """A value that fits a schema, or an odd one."""
        rng = self.rng
        if rng.random() < self.odd:
            return json_value(rng)
        if name in self.known and rng.random() < 0.7:
            return rng.choice(self.known[name])
        schema = self._resolved(schema)
        for choice in ("anyOf", "oneOf", "allOf"):
            if choice in schema:
                return self.of(rng.choice(schema[choice]), name, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return rng.choice(schema["enum"])
        kind = schema.get("type", "object" if "properties" in schema else None)
        kind = rng.choice(kind) if isinstance(kind, list) else kind
        makers: dict[Any, Callable[[Mapping[str, Any], str, int], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._text,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda _schema, _name, _depth: rng.random() < 0.5,
            "null": lambda _schema, _name, _depth: None,
        }
        return makers[kind](schema, name, depth) if kind in makers else json_value(rng)

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        while isinstance(schema, dict) and "$ref" in schema:
            found: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema if isinstance(schema, dict) else {}

    def _object(self, schema: Mapping[str, Any], _: str, depth: int) -> dict[str, Any]:
        rng, made = self.rng, {}
        required = schema.get("required", ())
        for name, of in schema.get("properties", {}).items():
            if name in required or (depth < DEPTH and rng.random() < 0.4):
                made[name] = self.of(of, name, depth + 1)
        more = schema.get("additionalProperties")
        if depth < DEPTH and (isinstance(more, dict) or rng.random() < 0.05):
            for _i in range(rng.randint(0, 2)):
                made[rng.choice(("x", "y", rng.choice(ODD_TEXTS)))] = self.of(more or {}, "", depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        count = 0 if depth >= DEPTH else self.rng.choice((0, 1, 1, 2, 3, 30))
        return [self.of(schema.get("items", {}), name, depth + 1) for _ in range(count)]

    def _text(self, schema: Mapping[str, Any], _: str, depth: int) -> str:
        if schema.get("format") == "date-time":
            return self.rng.choice(("2026-01-01T00:00:00Z", "2026-11-27T20:00:00.123456+02:00", "1970-01-01T00:00:00Z"))
        if schema.get("format") == "uuid":
            return "12345678-1234-5678-9234-567812345678"
        if self.rng.random() < max(self.odd, 0.02):
            return self.rng.choice(ODD_TEXTS)
        return self.rng.choice(("a", "guarded", "x", f"n{self.rng.randint(0, 200)}"))

    def _integer(self, schema: Mapping[str, Any], *_: Any) -> int:
        least, most = schema.get("minimum", schema.get("exclusiveMinimum", -3)), schema.get("maximum", 1_000)
        return self.rng.choice((int(least), int(most), self.rng.randint(int(least), max(int(least), int(most)))))

    def _number(self, schema: Mapping[str, Any], *_: Any) -> float:
        return self.rng.choice((0, 1, -1, 0.5, 1e308, 5e-324, float(schema.get("minimum", 2)), self.rng.random()))


class RawJson(str):
    """Text that stands in a body as it is."""


def json_value(rng: Random) -> RawJson:
    """An odd value, as text."""
    return RawJson(rng.choice(ODD_JSON) if rng.random() < 0.7 else json.dumps(rng.choice(ODD_TEXTS)))


def written(value: Any) -> str:
    """JSON of a value with raw parts in it."""
    if isinstance(value, RawJson):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))}: {written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(v) for v in value) + "]"
    return json.dumps(value)


def mutated(rng: Random, body: bytes) -> bytes:
    """The bytes with up to four changes: flipped, cut, repeated, put in, taken out."""
    made = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(made) + 1)
        change = rng.randrange(6)
        if change == 0 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            del made[at:]
        elif change == 2:
            made[at:at] = made[at : at + rng.randint(1, 40)] * rng.randint(1, 30)
        elif change == 3:
            made[at:at] = rng.choice(ODD_JSON).encode()[:200]
        elif change == 4:
            made[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            del made[at : at + rng.randint(1, 10)]
    return bytes(made)
