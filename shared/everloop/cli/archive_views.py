"""The archive as tables and panels for people; plain text without a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

if TYPE_CHECKING:
    from everloop_archive.reader.iceberg import Registered
    from everloop_archive.reader.summary import TableSummary
    from everloop_archive.reader.verify import TableCheck


def tables(found: Sequence[TableSummary]) -> RenderableType:
    """Tables, a line each."""
    shown = _table("loop", "table", "rows", "files", "bytes", "days", "last file")
    for one in found:
        numbers = (f"{one.rows:,}", f"{one.files:,}", f"{one.bytes:,}")
        shown.add_row(one.loop, one.kind, *numbers, _days(one), _time(one.modified_ms))
    return shown


def table(one: TableSummary) -> RenderableType:
    """A table in full."""
    facts = _table_of_facts(
        ("rows", f"{one.rows:,}"),
        ("files", f"{one.files:,} of {one.bytes:,} bytes"),
        ("days", _days(one)),
        ("last file", _time(one.modified_ms)),
        ("commit", f"{one.commit:,}"),
    )
    partitions = _table("partition", "rows", "files", "offsets", "archived from", "up to", "lost before that")
    for p in one.partitions:
        gaps = ", ".join(f"{first:,} to {stop - 1:,}" for first, stop in p.gaps)
        ends = ("?" if end is None else f"{end:,}" for end in (p.since, p.archived))
        partitions.add_row(
            str(p.partition), f"{p.rows:,}", f"{p.files:,}", f"{p.first:,} to {p.last:,}", *ends, gaps or "nothing"
        )
    columns = _table("column", "type")
    for name, kind in one.columns:
        columns.add_row(name, kind)
    return Panel(
        Group(facts, "", partitions, "", columns), title=f"{one.kind} of {one.loop}", title_align="left", expand=False
    )


def checks(found: Mapping[str, TableCheck]) -> RenderableType:
    """What was verified, a line for each partition."""
    shown = _table("table", "partition", "rows", "offsets", "sha256", "problems")
    for kind, check in found.items():
        for p in check.partitions:
            problems = sum(problem.partition == p.partition for problem in check.problems)
            offsets = f"{p.first:,} to {p.last:,}" if p.rows else "none"
            shown.add_row(kind, str(p.partition), f"{p.rows:,}", offsets, p.sha256, str(problems or "none"))
    return shown


def registered(found: Sequence[Registered]) -> RenderableType:
    """Iceberg tables, a line each."""
    shown = _table("Iceberg table", "files added", "files", "rows")
    for one in found:
        shown.add_row(one.table, f"{one.added:,}", f"{one.files:,}", f"{one.rows:,}")
    return shown


def _days(one: TableSummary) -> str:
    return one.first_day if one.first_day == one.last_day else f"{one.first_day} to {one.last_day}"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if ms else "-"


def _table(*columns: str) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    return shown


def _table_of_facts(*facts: tuple[str, str]) -> Table:
    shown = Table(box=None, show_header=False, pad_edge=False)
    for fact in facts:
        shown.add_row(*fact)
    return shown
