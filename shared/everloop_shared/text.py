"""Which characters may be in text that people write and read."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator


def is_readable(text: str, but: str = "") -> bool:
    """Whether the text has no control characters (except those in `but`) and no halves of surrogate pairs."""
    return text.isprintable() or not any(unicodedata.category(c) in ("Cc", "Cs") and c not in but for c in text)


def _readable(text: str) -> str:
    if not is_readable(text, but="\t\r\n"):
        raise ValueError("must be text without control characters")
    return text


Readable = Annotated[str, AfterValidator(_readable)]
"""Text in a body or an address: a reason, a key, a name."""
