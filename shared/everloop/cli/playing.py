"""Plays a file as the replay command was asked to, and says what came of it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from everloop.cli.ask import ask
from everloop.cli.output import Failed, result, say, show
from everloop.cli.progress import Meter
from everloop.client import AsyncEverloop
from everloop.errors import EverloopError
from everloop.local.discovery import find_installation
from everloop.replay.outcomes import LogOutcomes, OutcomeMissing, topics_of
from everloop.replay.player import Played, Player
from everloop.replay.rows import Columns, FileUnusable, Row, Source
from everloop.topics import reader
from everloop.wire import path
from everloop_schemas.loop import LoopSpec

__all__ = ["Columns", "Wish", "play"]
GIVE_UP_AFTER_S = 600.0


@dataclass(frozen=True)
class Wish:
    """What is to be played, and how; `rate` in rows per second, None for as fast as it goes."""

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


def play(wish: Wish) -> None:
    """Play it. Raises Failed when it ended early."""
    spec = LoopSpec.model_validate(ask("registry", path(wish.loop), wish.data)["spec"])
    try:
        source = Source.of(wish.file)
        lacking = source.lacks(spec, wish.columns)
    except FileUnusable as e:
        raise Failed(str(e)) from e
    if lacking:
        say(f"{wish.file} has no column {', '.join(lacking)}: missing in every row")
    total = max(0, source.lines - 1 - wish.skip)
    rows = source.rows(spec, wish.columns, wish.skip, wish.limit)
    started = time.monotonic()
    with Meter(total if wish.limit is None else min(total, wish.limit)) as meter:
        played, ended = asyncio.run(_play(wish, spec, rows, meter))
    _report(wish, played, time.monotonic() - started)
    if ended:
        raise Failed(ended)


async def _play(wish: Wish, spec: LoopSpec, rows: Iterator[Row], meter: Meter) -> tuple[Played, str | None]:
    """What was played, and why it ended early, if it did."""
    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(
            AsyncEverloop(wish.data, retry_for=GIVE_UP_AFTER_S, on_retry=meter.waiting)
        )
        player = Player(wish.loop, sender, wish.label_delay, wish.rate)
        player.refused, player.progress = meter.refused, meter.progress
        try:
            if wish.lockstep:
                player.outcomes = await stack.enter_async_context(_outcomes(wish, spec))
            playing = asyncio.create_task(player.play(rows))
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
            await playing
        except asyncio.CancelledError:
            return player.played, "interrupted; play it again, and it goes on where it was"
        except (EverloopError, OutcomeMissing, FileUnusable, KafkaError) as e:
            return player.played, str(e)
    return player.played, None


def _outcomes(wish: Wish, spec: LoopSpec) -> LogOutcomes:
    return LogOutcomes(reader(find_installation(wish.data), topics_of(spec), "replay"), spec)


def _report(wish: Wish, played: Played, seconds: float) -> None:
    if wish.as_json:
        result({**asdict(played), "seconds": round(seconds, 3)})
        return
    show(
        f"{played.accepted:,} rows accepted, {played.rejected:,} refused, {played.labels:,} labels sent "
        f"in {seconds:,.1f} s ({played.sent / max(seconds, 1e-9):,.0f} rows/s)"
    )
    if wish.rate and played.sent / max(seconds, 1e-9) < 0.8 * wish.rate and not wish.lockstep:
        say(f"Slower than asked: only {wish.label_delay} rows travel at once; a longer --label-delay goes faster.")
