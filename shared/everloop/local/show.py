"""What a person sees while the installation starts: progress on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from everloop.local.errors import InstallationError
from everloop.local.ports import SERVICES

LINE_EVERY = 0.2


def problem(console: Console, error: InstallationError) -> None:
    """Say what went wrong, then the fix."""
    console.print("everloop:", error.what, style="bold red", markup=False, highlight=False, soft_wrap=True)
    if error.fix:
        console.print(error.fix, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def download(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """Show a download; yields the function that is told (bytes so far, bytes in all, what)."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("Apache Kafka"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None, visible=False)
        yield lambda done, total, what: progress.update(
            task, completed=done, total=total, description=what, visible=True
        )


def _lines(console: Console) -> Callable[[int, int, str], None]:
    shown = -1.0

    def tell(done: int, total: int, what: str) -> None:
        nonlocal shown
        part = done / total if total else 0.0
        if shown < 0 or part - shown >= LINE_EVERY or done == total:
            shown = part
            console.print(f"Apache Kafka: {done / 1e6:.0f} of {total / 1e6:.0f} MB ({what})", highlight=False)

    return tell


@contextmanager
def waiting(console: Console) -> Iterator[Callable[[str], None]]:
    """Show what is waited for; yields the function that is told so."""
    if console.is_terminal:
        with console.status("starting") as status:
            yield status.update
        return
    last = ""

    def tell(what: str) -> None:
        nonlocal last
        if what != last:
            last = what
            console.print(what, highlight=False)

    yield tell


def doors(console: Console, listed: dict[str, Any], title: str) -> None:
    """Show the address of every service, and of the broker or of the door that reads the memory bus."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("service", "address", "pid"):
        table.add_column(heading)
    for name in SERVICES:
        entry = listed.get(name, {})
        table.add_row(name, str(entry.get("url", "-")), str(entry.get("pid", "-")))
    if "topics" in listed:
        table.add_row("topics", str(listed["topics"]["url"]), str(listed["topics"]["pid"]))
    else:
        kafka = listed.get("kafka", {})
        table.add_row("kafka", str(kafka.get("bootstrap", "-")), str(kafka.get("pid") or "your own"))
    console.print(table)
