"""Rules for what a spec names as values: of fields, labels, expectations and parameters of searches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from everloop_schemas.envelope import Scalar
from everloop_shared.errors import FieldError
from everloop_shared.text import is_readable

MAX_TEXT_CHARACTERS = 256
MAX_VALUES = 1_000
"""Of an `enum`, of `label.classes` or of `one_of`."""
TWICE = "names a value twice; keep one"
PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
"""By type of a field or label, the types that its values have in Python."""


def text_error(values: Iterable[object]) -> str | None:
    """What is wrong with the texts among the values: each is short, and a person can read and write it again."""
    if all(0 < len(v) <= MAX_TEXT_CHARACTERS and is_readable(v) for v in values if isinstance(v, str)):
        return None
    return f"has text that is empty, over {MAX_TEXT_CHARACTERS} characters, or with control characters"


def check_values(path: str, values: tuple[Scalar, ...], kind: str) -> Iterator[FieldError]:
    """At most one error: no other values will ever be valid, so each must have the type and be there once."""
    if not values:
        yield FieldError(path, "is empty, so no value would be valid; name the values, or leave it out")
    elif len(values) > MAX_VALUES:
        yield FieldError(path, f"has {len(values):,} values; at most {MAX_VALUES:,}")
    elif wrong := [v for v in values if type(v) not in PYTHON_TYPES[kind]]:
        article = "an" if kind == "integer" else "a"
        reason = f"has {shorten(wrong[0])}, which is not {article} {kind}; write values of that type, text in quotes"
        yield FieldError(path, reason)
    elif error := text_error(values):
        yield FieldError(path, error)
    elif len(set(values)) < len(values):
        yield FieldError(path, TWICE)


def shorten(value: Any) -> str:
    """A value as a message shows it."""
    return f"{value!r:.40}".lower() if isinstance(value, bool) else f"{value!r:.40}"
