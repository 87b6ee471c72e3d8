"""CSV text as the values a loop's schema and label ask for."""

from __future__ import annotations

import math
from typing import Any

from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import FieldSpec, LoopSpec

TRUE = frozenset({"1", "1.0", "true", "t", "yes", "y", "up"})
FALSE = frozenset({"0", "0.0", "false", "f", "no", "n", "down"})


def value(field: FieldSpec, text: str) -> Scalar | None:
    """The value of a field; None where the text is empty (of a string only where it may be missing).

    Raises ValueError, in words, where the text is nothing of that type.
    """
    if text == "" and (field.type != "string" or field.missing == "null"):
        return None
    return _typed(field.type, text)


def label(spec: LoopSpec, text: str) -> Scalar | None:
    """The label in a cell; None where it is empty. Raises ValueError, in words."""
    if text.strip() == "":
        return None
    if spec.label.classes is None:
        return _typed(spec.label_type, text)
    for known in spec.label.classes:
        if text == str(known) or (isinstance(known, bool) and _boolean(text) is known):
            return known
    raise ValueError(f"{text!r} is none of the classes {', '.join(map(str, spec.label.classes))}")


def _typed(kind: str, text: str) -> Scalar:
    typed: dict[str, Any] = {"number": _number, "integer": _integer, "boolean": _truth}
    return typed.get(kind, str)(text)  # type: ignore[no-any-return]


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is no finite number")
    return number


def _integer(text: str) -> int:
    number = _number(text)
    if number != int(number):
        raise ValueError(f"{text!r} is no whole number")
    return int(text) if text.strip().lstrip("+-").isdecimal() else int(number)


def _truth(text: str) -> bool:
    found = _boolean(text)
    if found is None:
        raise ValueError(f"{text!r} is neither true (1, true, t, yes, y, up) nor false (0, false, f, no, n, down)")
    return found


def _boolean(text: str) -> bool | None:
    word = text.strip().lower()
    return True if word in TRUE else False if word in FALSE else None
