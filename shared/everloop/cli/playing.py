"""Plays a file into a loop and reports the result: the work of `everloop replay`."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import typer

from everloop.async_client import AsyncEverloop
from everloop.cli.ask import ask
from everloop.cli.output import CommandFailed, print_json, print_result, print_stderr
from everloop.cli.progress import ReplayProgress
from everloop.errors import EverloopError
from everloop.local.discovery import find_installation
from everloop.replay.outcomes import LogOutcomes, OutcomeMissing, has_lagged_label, topics_of
from everloop.replay.pace import LoopPace
from everloop.replay.player import ROWS_BEFORE_LABELS, Played, Player
from everloop.replay.rows import Columns, CsvFile, FileUnusable, Row
from everloop.topics import reader
from everloop.wire import http_error, loop_path
from everloop_schemas.loop import LoopSpec

__all__ = ["Columns", "ReplayRequest", "play"]
GIVE_UP_AFTER_S = 600.0
STATUS_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class ReplayRequest:
    """The file, the loop and the options; `rate` in rows per second, None for as fast as the loop predicts."""

    loop: str
    data: str | None
    file: Path
    columns: Columns
    skip: int
    limit: int | None
    label_delay: int | None
    rate: float | None
    lockstep: bool
    as_json: bool


def play(request: ReplayRequest) -> None:
    """Play it. Raises CommandFailed when it ended early."""
    spec = read_spec(request.loop, request.data)
    try:
        source = CsvFile.of(request.file)
        missing = source.missing_fields(spec, request.columns)
    except FileUnusable as e:
        raise CommandFailed(str(e)) from e
    if missing:
        print_stderr(f"{request.file} has no column {', '.join(missing)}: missing in every row")
    if request.label_delay is None and has_lagged_label(spec):
        request = replace(request, label_delay=1)
    if request.columns.label and not request.lockstep:
        print_stderr(_explain_pace(request.label_delay))
    total = max(0, source.lines - 1 - request.skip)
    rows = source.rows(spec, request.columns, request.skip, request.limit)
    started = time.monotonic()
    with ReplayProgress(total if request.limit is None else min(total, request.limit)) as progress:
        played, ended = asyncio.run(_play(request, spec, rows, progress))
    _report(request, played, time.monotonic() - started, ended)
    fail_if_ended(ended, request.as_json)


def read_spec(loop: str, data: str | None) -> LoopSpec:
    """The loop's spec, as the registry has it."""
    return LoopSpec.model_validate(ask("registry", loop_path(loop), data)["spec"])


@asynccontextmanager
async def open_pace(loop: str, data: str | None) -> AsyncIterator[LoopPace]:
    """The pace of a loop, by its status."""
    async with (
        AsyncEverloop(data, timeout=STATUS_TIMEOUT_S, retry_for=0.0) as monitoring,
        LoopPace(partial(_status, monitoring, loop)) as pace,
    ):
        yield pace


def fail_if_ended(ended: str | None, as_json: bool) -> None:
    """Fail with the reason why a replay ended early, if it did."""
    if ended and as_json:
        print_stderr(f"everloop: {ended}")  # the counts are the one JSON text on standard output
        raise typer.Exit(1)
    if ended:
        raise CommandFailed(ended)


def _explain_pace(label_delay: int | None) -> str:
    """What bounds the rate, and what a higher one costs."""
    if label_delay is None:
        return (
            f"Rows are sent in batches of up to {ROWS_BEFORE_LABELS}, each followed by its labels. Features are the "
            "same as row by row, but a model may predict a row before it has learned from the rows just before; "
            "--lockstep waits for each outcome."
        )
    rows = "1 row is" if label_delay == 1 else f"{label_delay:,} rows are"
    return f"At most {rows} in flight, which bounds the rate; a larger --label-delay is faster, its labels come later."


async def _play(
    request: ReplayRequest, spec: LoopSpec, rows: Iterator[Row], progress: ReplayProgress
) -> tuple[Played, str | None]:
    """The counts, and why the replay ended early, if it did."""
    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(
            AsyncEverloop(request.data, retry_for=GIVE_UP_AFTER_S, on_retry=progress.report_retry)
        )
        player = Player(request.loop, sender, request.label_delay, request.rate)
        player.on_refused, player.on_progress = progress.report_refused, progress.update
        try:
            if request.lockstep:
                player.outcomes = await stack.enter_async_context(_outcomes(request, spec))
            elif request.rate is None:
                player.pace = await stack.enter_async_context(open_pace(request.loop, request.data))
            playing = asyncio.create_task(player.play(rows))
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
            await playing
        except asyncio.CancelledError:
            return player.played, "interrupted; play the file again, and it continues where it stopped"
        except (EverloopError, OutcomeMissing, FileUnusable) as e:
            return player.played, str(e)
    return player.played, None


def _outcomes(request: ReplayRequest, spec: LoopSpec) -> LogOutcomes:
    return LogOutcomes(reader(find_installation(request.data), topics_of(spec), "replay"), spec)


async def _status(client: AsyncEverloop, loop: str) -> dict[str, Any]:
    response = await client.request("monitoring", "GET", loop_path(loop, "status"))
    if response.status_code != 200:
        raise http_error(response)
    status: dict[str, Any] = response.json()
    return status


def _report(request: ReplayRequest, played: Played, seconds: float, ended: str | None) -> None:
    if request.as_json:
        print_json({**asdict(played), "seconds": round(seconds, 3)} | ({"ended": ended} if ended else {}))
        return
    print_result(
        f"{played.accepted:,} rows accepted, {played.rejected:,} refused, {played.labels:,} labels sent "
        f"in {seconds:,.1f} s ({played.sent / max(seconds, 1e-9):,.0f} rows/s)"
    )
    if request.rate and played.sent / max(seconds, 1e-9) < 0.8 * request.rate and not request.lockstep:
        slow = (
            f"at most {request.label_delay} rows are in flight; a larger --label-delay is faster."
            if request.label_delay
            else "ingest accepts no more on this machine."
        )
        print_stderr(f"Slower than --rate: {slow}")
