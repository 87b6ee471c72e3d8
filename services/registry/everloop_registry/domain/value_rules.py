"""Rules for texts that a spec names as values: of fields, of labels, and of parameters that a search tries."""

from __future__ import annotations

from collections.abc import Iterable

from everloop_shared.text import is_readable

MAX_TEXT_CHARACTERS = 256
TWICE = "names a value twice; keep one"


def text_error(values: Iterable[object]) -> str | None:
    """What is wrong with the texts among the values: each is short, and a person can read and write it again."""
    if all(0 < len(v) <= MAX_TEXT_CHARACTERS and is_readable(v) for v in values if isinstance(v, str)):
        return None
    return f"has text that is empty, over {MAX_TEXT_CHARACTERS} characters, or with control characters"
