"""Plays a file into a loop and reports the result: the work of `everloop replay`."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from everloop.async_client import AsyncEverloop
from everloop.cli.ask import ask
from everloop.cli.output import CommandFailed, print_json, print_result, print_stderr
from everloop.cli.progress import ReplayProgress
from everloop.errors import EverloopError
from everloop.local.discovery import find_installation
from everloop.replay.outcomes import LogOutcomes, OutcomeMissing, topics_of
from everloop.replay.player import Played, Player
from everloop.replay.rows import Columns, CsvFile, FileUnusable, Row
from everloop.topics import reader
from everloop.wire import loop_path
from everloop_schemas.loop import LoopSpec

__all__ = ["Columns", "ReplayRequest", "play"]
GIVE_UP_AFTER_S = 600.0


@dataclass(frozen=True)
class ReplayRequest:
    """The file, the loop and the options; `rate` in rows per second, None for as fast as possible."""

    loop: str
    data: str | None
    file: Path
    columns: Columns
    skip: int
    limit: int | None
    label_delay: int
    rate: float | None
    lockstep: bool
    as_json: bool


def play(request: ReplayRequest) -> None:
    """Play it. Raises CommandFailed when it ended early."""
    spec = LoopSpec.model_validate(ask("registry", loop_path(request.loop), request.data)["spec"])
    try:
        source = CsvFile.of(request.file)
        missing = source.missing_fields(spec, request.columns)
    except FileUnusable as e:
        raise CommandFailed(str(e)) from e
    if missing:
        print_stderr(f"{request.file} has no column {', '.join(missing)}: missing in every row")
    total = max(0, source.lines - 1 - request.skip)
    rows = source.rows(spec, request.columns, request.skip, request.limit)
    started = time.monotonic()
    with ReplayProgress(total if request.limit is None else min(total, request.limit)) as progress:
        played, ended = asyncio.run(_play(request, spec, rows, progress))
    _report(request, played, time.monotonic() - started)
    if ended:
        raise CommandFailed(ended)


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


def _report(request: ReplayRequest, played: Played, seconds: float) -> None:
    if request.as_json:
        print_json({**asdict(played), "seconds": round(seconds, 3)})
        return
    print_result(
        f"{played.accepted:,} rows accepted, {played.rejected:,} refused, {played.labels:,} labels sent "
        f"in {seconds:,.1f} s ({played.sent / max(seconds, 1e-9):,.0f} rows/s)"
    )
    if request.rate and played.sent / max(seconds, 1e-9) < 0.8 * request.rate and not request.lockstep:
        print_stderr(
            f"Slower than --rate: at most {request.label_delay} rows are in flight; a larger --label-delay is faster."
        )
