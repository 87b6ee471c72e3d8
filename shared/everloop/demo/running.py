"""Runs the demo: starts a local installation of its own, plays the stream, shows the loop close, and stops it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console
from rich.live import Live

from everloop.async_client import AsyncEverloop
from everloop.demo.browser import has_browser, open_page
from everloop.demo.bus import why_no_kafka
from everloop.demo.follow import TOPICS, follow
from everloop.demo.story import Moment, Story, missing_steps
from everloop.demo.stream import DemoStream, play
from everloop.demo.view import line, report, screen
from everloop.local import jars, show
from everloop.local.discovery import Installation, find_installation
from everloop.local.kafka import check_java
from everloop.topics import reader

LOOP = "electricity"
LAST_OUTCOMES_WITHIN_S = 60.0
EXAMPLE = Path(__file__).parents[1] / "examples" / LOOP


def demo(folder: Path, *, rate: float, plain: bool, keep: bool, browser: bool = True) -> None:
    """Run the demo in a fresh folder, with its console in a browser where there is one.

    Raises InstallationError, and Exit with status 1 if the loop did not close.
    """
    console = Console()
    _everloop("down", "--data", str(folder))
    if folder.exists():
        shutil.rmtree(folder)
    stream = replace(DemoStream(), rate=rate)
    story = Story(stream.onset_id)
    try:
        if _everloop("up", "--data", str(folder), "--ports", "auto", "--detach", *_bus_options(console)):
            raise typer.Exit(1)
        if _everloop("apply", "-f", str(EXAMPLE / "loop.yaml"), "--data", str(folder)):
            raise typer.Exit(1)
        installation = find_installation(str(folder))
        if browser and not plain and has_browser(console.is_terminal, os.environ):
            open_page(f"{installation.url('monitoring')}/#{LOOP}")
        with suppress(KeyboardInterrupt):
            asyncio.run(_run(console, installation, stream, story, plain or not console.is_terminal))
        _finish(console, folder, story)
    finally:
        if not keep:
            _everloop("down", "--data", str(folder))


def _bus_options(console: Console) -> list[str]:
    """The options of `up` that name the bus; prints why where it is not Kafka. Raises InstallationError."""
    with show.download(Console(stderr=True)) as progress:
        reason = why_no_kafka(lambda: jars.fetch(progress), check_java)
    if reason is None:
        return []
    console.print(f"Kafka cannot run here: {reason}", style="bold yellow", markup=False, soft_wrap=True)
    console.print(
        "The demo runs on the memory bus instead: the same six services and the same events, in one process, "
        "without a broker. Its data is gone at the end, and it proves nothing about crashes.",
        style="yellow",
    )
    return ["--bus", "memory"]


def _everloop(*args: str) -> int:
    return subprocess.run([sys.executable, "-m", "everloop", *args], check=False).returncode


async def _run(console: Console, installation: Installation, stream: DemoStream, story: Story, plain: bool) -> None:
    sent = 0

    def on_sent(count: int) -> None:
        nonlocal sent
        sent = count

    async with AsyncEverloop(str(installation.folder)) as client:
        following = asyncio.create_task(follow(reader(installation, TOPICS, "demo"), LOOP, story))
        playing = asyncio.create_task(play(client, LOOP, EXAMPLE / "electricity.csv.gz", stream, on_sent))
        showing = asyncio.create_task(
            _print_lines(console, story) if plain else _show_live(console, story, stream, lambda: sent, installation)
        )
        try:
            await _wait_for_player(playing, following, showing)
            deadline = asyncio.get_running_loop().time() + LAST_OUTCOMES_WITHIN_S
            while story.outcomes < stream.rows and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.2)
        finally:
            for task in (playing, showing, following):
                task.cancel()
            await asyncio.gather(playing, showing, following, return_exceptions=True)


async def _wait_for_player(playing: asyncio.Task[None], *others: asyncio.Task[None]) -> None:
    """Wait until the stream is played; a task of the others that ends first has failed, and its error is raised."""
    await asyncio.wait([playing, *others], return_when=asyncio.FIRST_COMPLETED)
    for task in (*others, playing):
        if task.done():
            task.result()


async def _print_lines(console: Console, story: Story) -> None:
    printed, milestone = 0, 0
    console.print("time      outcomes  what            why", highlight=False)
    while True:
        for moment in story.timeline[printed:]:
            _print_moment(console, moment)
        printed = len(story.timeline)
        if story.outcomes >= milestone + 500:
            milestone = story.outcomes // 500 * 500
            accuracy = "  ".join(f"{name} {story.rolling(name):.1%}" for name in ("served", "no_change", "majority"))
            console.print(f"          {milestone:>6,}  accuracy        {accuracy}", highlight=False, soft_wrap=True)
        await asyncio.sleep(0.2)


def _print_moment(console: Console, moment: Moment) -> None:
    console.print(line(moment), highlight=False, soft_wrap=True)


async def _show_live(
    console: Console, story: Story, stream: DemoStream, sent: Callable[[], int], installation: Installation
) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            drifted = sent() > stream.before
            phase = "labels are inverted: watch the loop close" if drifted else "before the drift"
            live.update(screen(story, stream.rows, sent(), phase, installation.url("monitoring")), refresh=True)
            await asyncio.sleep(0.25)


def _finish(console: Console, folder: Path, story: Story) -> None:
    console.print()
    for moment in story.timeline if console.is_terminal else ():
        _print_moment(console, moment)
    console.print(report(story))
    missing = missing_steps(story)
    for step in missing:
        console.print(f"The loop did not close: {step}.", style="bold red")
    if missing:
        console.print(f"The logs are in {folder / 'logs'}.")
        raise typer.Exit(1)
    console.print("The loop closed by itself.", style="bold green")
    console.print(
        "Next: your own first loop, in the README; `everloop demo --keep` leaves the services running; "
        "`everloop --help`."
    )
