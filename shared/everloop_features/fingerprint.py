"""The digest of an observation's content, which tells a duplicate from another observation under the same id; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from everloop_schemas.envelope import Fields, Scalar

Write = Callable[[Mapping[str, Any]], str | None]
"""The fields as `repr` writes the list of their names and values; None where that takes `repr`."""


def fingerprint(entity: str, fields: Fields, time: datetime | None) -> str:
    """16 hex digits. 1 and 1.0 are equal, and a missing field counts as none.

    `time` is None where the application sent none. Digests are stored and compared across releases, so what is hashed
    stays byte for byte what `repr` gives for `(entity, [(name, value), ...], timestamp)`.
    """
    content = _writer(tuple(fields))(fields) or repr(_content(fields))
    whole = f"({entity!r}, {content}, {None if time is None else time.timestamp()!r})"
    return blake2b(whole.encode(), digest_size=8).hexdigest()


def _content(fields: Fields) -> list[tuple[str, Scalar]]:
    return [(name, _comparable(value)) for name, value in sorted(fields.items()) if value is not None]


def _comparable(value: Scalar) -> Scalar:
    return int(value) if type(value) is float and value.is_integer() else value


@lru_cache(maxsize=1_000)
def _writer(names: Sequence[str]) -> Write:
    """Writes fields of these names where all values are numbers of usual size, in half the time of `repr`.

    msgspec writes such numbers with the same digits. What it writes for null, true, false, texts and exponents has an
    `n`, an `e` or a quote; below 0.0001 `repr` writes an exponent, and msgspec not always.
    """
    ordered = sorted(names)
    layout = "[" + ", ".join([f"({name!r}, ".replace("%", "%%") + "%s)" for name in ordered]) + "]"

    def write(fields: Mapping[str, Any]) -> str | None:
        text = _encoder.encode([fields[name] for name in ordered]).decode()
        if "e" in text or "n" in text or '"' in text or "0.0000" in text or not ordered:
            return None
        numbers = text[1:-1].split(",")
        if ".0," in text or ".0]" in text:
            numbers = [_without_fraction(number) for number in numbers]
        return layout % tuple(numbers)

    return write


def _without_fraction(number: str) -> str:
    if number[-2:] != ".0":
        return number
    return "0" if number == "-0.0" else number[:-2]


_encoder = msgspec.json.Encoder()
