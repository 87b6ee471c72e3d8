"""HTML in which nothing from elsewhere is markup: every text is escaped, every attribute quoted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

VOID = frozenset({"meta", "line", "path", "rect"})
"""Elements that have no content here."""


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Child = Markup | str | int | float | None


def tag(name: str, *children: Child, **attributes: Any) -> Markup:
    """An element; `class_` stands for class, `_` in other names for `-`, None leaves an attribute out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(visible(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Several children one after the other; None is left out."""
    found = (child if isinstance(child, Markup) else escape(visible(child)) for child in children if child is not None)
    return Markup("".join(found))


def visible(value: Any) -> str:
    """Text without characters that HTML must not have, or that turn the direction of what follows."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in str(value))


def table(heads: Sequence[str], rows: Sequence[Sequence[Child]], caption: str | None = None) -> Markup:
    """A table with a head; numbers stand to the right."""
    head = tag("tr", *(tag("th", text, scope="col") for text in heads))
    body = (tag("tr", *(tag("td", cell, class_=_class_of(cell)) for cell in row)) for row in rows)
    title = tag("caption", caption) if caption else None
    return tag("table", title, tag("thead", head), tag("tbody", *body))


def _class_of(cell: Child) -> str | None:
    return "n" if isinstance(cell, int | float) or (isinstance(cell, str) and cell[:1].isdigit()) else None
