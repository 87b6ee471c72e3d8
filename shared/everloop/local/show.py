"""The output of `everloop up` and `down`: progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from everloop_schemas.topology import SERVICES

LINE_EVERY_SHARE = 0.2


@contextmanager
def download(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """Show a download; yields the function to call with (bytes so far, bytes in all, what)."""
    if not console.is_terminal:
        yield _line_printer(console)
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


def _line_printer(console: Console) -> Callable[[int, int, str], None]:
    shown = -1.0

    def report(done: int, total: int, what: str) -> None:
        nonlocal shown
        part = done / total if total else 0.0
        if shown < 0 or part - shown >= LINE_EVERY_SHARE or done == total:
            shown = part
            console.print(f"Apache Kafka: {done / 1e6:.0f} of {total / 1e6:.0f} MB ({what})", highlight=False)

    return report


@contextmanager
def waiting(console: Console) -> Iterator[Callable[[str], None]]:
    """Show what the command waits for; yields the function to call with it."""
    if console.is_terminal:
        with console.status("starting") as status:
            yield status.update
        return
    last = ""

    def report(state: str) -> None:
        nonlocal last
        if state != last:
            last = state
            console.print(state, highlight=False)

    yield report


def endpoints(console: Console, listed: dict[str, Any], title: str) -> None:
    """Show the address of every service, and of the broker or of the endpoint that reads the memory bus."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("service", "address", "pid"):
        table.add_column(heading)
    for name in SERVICES:
        entry = listed.get(name, {})
        table.add_row(name, str(entry.get("url", "-")), str(entry.get("pid", "-")))
        if "grpc" in entry:
            table.add_row(f"{name}, gRPC", str(entry["grpc"]), str(entry.get("pid", "-")))
    if "topics" in listed:
        table.add_row("topics", str(listed["topics"]["url"]), str(listed["topics"]["pid"]))
    else:
        kafka = listed.get("kafka", {})
        table.add_row("kafka", str(kafka.get("bootstrap", "-")), str(kafka.get("pid") or "your own"))
    console.print(table)


def sign_in(console: Console, address: str) -> None:
    """Show the address by which the user's browser signs in, whole, so that it can be clicked."""
    console.print(f"Sign in at the console, once and within a minute: {address}", highlight=False, soft_wrap=True)
