"""Names and messages from files, made fit for an error message."""

from __future__ import annotations

SHOWN_CHARACTERS = 300


def shown(what: object) -> str:
    """What it says, in one line of printable characters, shortened."""
    text = str(what)
    short = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
    return "".join(c if c.isprintable() else "?" for c in short)


def quoted(name: str) -> str:
    """A name from a file, in quotes, with what is not printable escaped; shortened."""
    return repr(name if len(name) <= 80 else f"{name[:80]}…")
