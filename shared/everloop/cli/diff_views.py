"""What applying loop files would do, as tables for people, and as Markdown for comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from everloop.cli.output import printable

Found = Mapping[str, Any]
STATES = {
    "kept": "kept",
    "fills_up": "fills up",
    "starts_empty": "starts empty",
    "new": "new",
    "changed": "changed",
    "retrained": "retrained",
    "ends": "ends",
}
MAX_VALUE_CHARACTERS = 200
MAX_MARKDOWN_CHARACTERS = 60_000
"""A comment has at most 65,536 characters."""
Rows = tuple[Sequence[str], Sequence[Sequence[str]]]
"""The titles of a table, and its rows."""


def table(found: Sequence[Found]) -> Iterator[RenderableType]:
    """Each file with its tables."""
    for number, one in enumerate(found):
        if number:
            yield ""
        yield Text(printable(_headline(one)), style="bold")
        if one["change"] == "refused":
            yield from (Text(f"  {printable(line)}") for line in _refusal(one))
        elif one["change"] != "unchanged":
            for titles, rows in _parts(one):
                yield _rich(titles, rows)
            yield Text(f"  {_cost(one['cost'])}")


def markdown(found: Sequence[Found]) -> str:
    """The same as Markdown, within the length of a comment."""
    return _bounded([_section(one) for one in found])


def checked(found: Sequence[Found]) -> Iterator[RenderableType]:
    """Each file, sound or with a line for each error."""
    for one in found:
        yield Text(printable(_verdict(one)))
        yield from (Text(f"  {printable(line)}") for line in _errors(one))


def checked_markdown(found: Sequence[Found]) -> str:
    """The same as Markdown."""
    return _bounded([_list(_heading(_verdict(one)), _errors(one)) for one in found])


def _headline(one: Found) -> str:
    name, change = one["loop"] or one["file"], one["change"]
    said = {
        "refused": "would be refused",
        "created": "would be created",
        "changed": f"would change from revision {one.get('revision', 0)} to {one.get('revision', 0) + 1}",
        "unchanged": f"would stay as it is, revision {one.get('revision', 0)}",
    }[change]
    return f"{name} {said} ({one['file']})"


def _verdict(one: Found) -> str:
    return f"{one['file']}: {one['loop']} is sound" if not one["errors"] else f"{one['file']}: would be refused"


def _refusal(one: Found) -> list[str]:
    return _errors(one) or [one["detail"]]


def _errors(one: Found) -> list[str]:
    return [f"{each['field']}: {each['error']}" for each in one["errors"]]


def _parts(one: Found) -> Iterator[Rows]:
    """The tables of a file, those without rows left out; features and lines that go on as they are in one row."""
    fields = [(each["path"], _value(each["before"]), _value(each["after"])) for each in one["fields"]]
    shown, same = _told(one["features"])
    features = [(f["feature"], f["before"] or "", f["after"] or "", STATES[f["state"]], f["detail"]) for f in shown]
    if same:
        features.append((f"{same:,} others", "", "", "kept", ""))
    lines = [(each["line"] or "", each["model"], STATES[each["state"]], each["detail"]) for each in one["lines"]]
    effects = [(each["field"], each["effect"]) for each in one["effects"]]
    tables: list[Rows] = [
        (("field", "before", "after"), fields),
        (("feature", "before", "after", "values", ""), features),
        (("line", "model", "becomes", ""), lines),
        (("also by", "what starts over"), effects),
    ]
    return ((titles, rows) for titles, rows in tables if rows)


def _told(features: Sequence[Found]) -> tuple[list[Found], int]:
    """The features that are told one by one, and how many are kept as they are."""
    shown = [f for f in features if f["state"] != "kept" or f["before"] != f["after"] or f["detail"]]
    return shown, len(features) - len(shown)


def _cost(cost: Found) -> str:
    before = "" if cost["before"] is None else f"{cost['before']:,.1f} -> "
    return f"features cost {before}{cost['after']:,.1f} µs per event, of {cost['limit']:,.0f}"


def _value(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"


def _rich(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", *titles):
        made.add_column(title, overflow="fold")
    for row in rows:
        made.add_row("", *(Text(printable(cell)) for cell in row))
    return made


def _section(one: Found) -> str:
    head = _heading(_headline(one))
    if one["change"] == "refused":
        return _list(head, _refusal(one))
    if one["change"] == "unchanged":
        return f"{head}\n"
    tables = "\n".join(_markdown_table(titles, rows) for titles, rows in _parts(one))
    return f"{head}\n\n{tables}\n{_cost(one['cost'])}\n"


def _heading(text: str) -> str:
    return f"### {_plain(text)}"


def _list(head: str, lines: Sequence[str]) -> str:
    return "\n".join([head, "", *(f"- {_code(line)}" for line in lines)]) + "\n" if lines else f"{head}\n"


def _markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(_code(cell) if cell else "" for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    """A code span: whatever is in a loop file is neither a link, a mention nor HTML there."""
    shown = printable(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    edge = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{edge}{shown}{edge}{fence}"


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>()#!|@~])", r"\\\1", printable(text))


def _bounded(sections: Sequence[str]) -> str:
    """All sections, cut at the end of a line where they are too long for a comment."""
    whole = "\n".join(sections).rstrip("\n")
    if len(whole) <= MAX_MARKDOWN_CHARACTERS:
        return whole
    cut = whole.rfind("\n", 0, MAX_MARKDOWN_CHARACTERS)
    return f"{whole[:cut]}\n\nThe rest of {len(whole):,} characters does not fit here."
