"""Converts text to the values that a loop's schema and label require: for CSV cells and the command line alike."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FieldSpec

TRUE = frozenset({"1", "1.0", "true", "t", "yes", "y", "up"})
FALSE = frozenset({"0", "0.0", "false", "f", "no", "n", "down"})
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
EXACT = 2**53
MAX_NUMBER_LENGTH = 400
"""Characters of the longest number: a double needs no more."""


def value(field: FieldSpec, text: str) -> Scalar | None:
    """The value of a field; None where the text is empty (of a string only where it may be missing).

    Raises ValueError with a sentence where the text is no value of that type.
    """
    if field.type == "string":
        return None if text == "" and field.missing == "null" else text
    return None if text.strip() == "" else _typed(field.type, text)


def label(spec: LoopSpec, text: str) -> Scalar | None:
    """The label in a text; None where it is empty. Raises ValueError with a sentence."""
    if text.strip() == "":
        return None
    if spec.label.classes is None:
        return _typed(spec.label_type, text)
    for label_class in spec.label.classes:
        if _names(label_class, text):
            return label_class
    raise ValueError(f"{text[:80]!r} is none of the classes {', '.join(map(str, spec.label.classes[:20]))}")


def _names(known: Scalar, text: str) -> bool:
    """Whether a text is this class: 1, 01 and 1.0 are one integer, as where the spec names no classes."""
    kind = {bool: "boolean", int: "integer", float: "number"}.get(type(known), "string")
    try:
        return _typed(kind, text) == known
    except ValueError:
        return False


def _typed(kind: str, text: str) -> Scalar:
    typed: dict[str, Any] = {"number": _number, "integer": _integer, "boolean": _boolean}
    return typed.get(kind, str)(text)  # type: ignore[no-any-return]


def _number(text: str) -> float | int:
    """The number as a double; a whole one beyond a double's precision stays as it is written."""
    written = _written(text, "finite number")
    number = float(written)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]!r} is no finite number")
    if abs(number) >= EXACT and written.lstrip("+-").isdecimal() and abs(number) < 2**63:
        return int(written)
    return number


def _integer(text: str) -> int:
    exact = Decimal(_written(text, "whole number"))
    if exact.adjusted() > 18 or exact != exact.to_integral_value():
        raise ValueError(f"{text[:80]!r} is no whole number of at most 64 bits")
    if not -(2**63) <= int(exact) < 2**63:
        raise ValueError(f"{text[:80]!r} has more than 64 bits")
    return int(exact)


def _written(text: str, what: str) -> str:
    """A number as it is written: plain digits, with a point and an exponent if need be, white space around it."""
    bare = text.strip()
    if len(bare) <= MAX_NUMBER_LENGTH and _NUMBER.fullmatch(bare):
        return bare
    hint = f"; write {bare.replace(',', '.')}" if len(bare) < 40 and _COMMA.fullmatch(bare) else ""
    raise ValueError(f"{text[:80]!r} is no {what}{hint}")


def _boolean(text: str) -> bool:
    bare = text.strip().lower()
    if bare in TRUE or bare in FALSE:
        return bare in TRUE
    raise ValueError(f"{text[:80]!r} is neither true (1, true, t, yes, y, up) nor false (0, false, f, no, n, down)")
