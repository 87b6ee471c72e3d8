"""Reads strict JSON: RFC 8259, UTF-8, each key of an object once. Errors say what to correct."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from pydantic_core import from_json

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
"""The content types of JSON lines."""
BOM = b"\xef\xbb\xbf"
_KEYS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*+(:?)', re.DOTALL)
"""Every string of a JSON text, and the colon that follows a key."""


class NotJson(ValueError):
    """The text is not strict JSON; the message says why."""


def read(text: bytes) -> Any:
    """The value of a JSON text; raises NotJson. A byte order mark at the beginning is skipped.

    A repeated key of an object is an error, because one of its values would silently be lost. Nesting is limited to
    200 levels and a number to 4,300 digits; a number beyond a double is infinite, which no field accepts.
    """
    if text[:3] == BOM:
        text = text[3:]
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as e:
        raise NotJson(f"not JSON as of RFC 8259 in UTF-8: {_utf16(text) or e}") from e
    if type(value) is dict or type(value) is list:
        _check_keys(text, _keys(value))
    return value


def is_json(content_type: str) -> bool:
    """Whether a content type, without parameters and in lower case, is JSON (RFC 6839 for `+json`)."""
    return content_type.endswith(("/json", "+json"))


def _check_keys(text: bytes, keys: int) -> None:
    """Raise NotJson where the text has more keys than the value.

    Without white space each key ends in `":`. If there are only as many of these as keys, no key is repeated, which is
    cheap to check. Strings may contain the same characters; only then the strings are parsed.
    """
    if text.translate(None, b" \t\r\n").count(b'":') != keys and _KEYS.findall(text).count(b":") != keys:
        raise NotJson(_repeated_key(text))


def _keys(value: Any) -> int:
    """How many keys all objects in a value have."""
    found = 0
    if type(value) is dict:
        found, value = len(value), value.values()
    for inner in value:
        if type(inner) is dict or type(inner) is list:
            found += _keys(inner)
    return found


def _repeated_key(text: bytes) -> str:
    try:
        json.loads(text, object_pairs_hook=_without_repetition)
    except ValueError as e:
        return str(e)
    return "a key is there twice; keep one"


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {repeated[:80]!r} is there twice; keep one")
    return found


def _utf16(text: bytes) -> str | None:
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "it begins with the byte order mark (BOM) of UTF-16 or UTF-32; send UTF-8"
    return None
