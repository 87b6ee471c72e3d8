"""The `demo` command: a local installation of its own, a real stream, and a view of the loop as it closes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from everloop.client import AsyncEverloop
from everloop.demo.bus import why_no_kafka
from everloop.demo.follow import TOPICS, follow
from everloop.demo.play import Script, play
from everloop.demo.story import Moment, Story, verdict
from everloop.demo.view import line, report, screen
from everloop.local import jars, show
from everloop.local.discovery import Installation, data_folder, find_installation
from everloop.local.errors import InstallationError
from everloop.local.kafka import check_java
from everloop.topics import reader

LOOP = "electricity"
PATIENCE_S = 60.0
EXAMPLES = Path(__file__).parents[3] / "deploy" / "loops"


def register(app: typer.Typer) -> None:
    """Mount `demo`."""
    app.command("demo", epilog="Example: everloop demo --plain")(demo)


def demo(
    data: Annotated[str | None, typer.Option("--data", metavar="DIR", help="Folder of the demo.")] = None,
    rate: Annotated[float, typer.Option(help="Rows played a second.", min=1, max=500)] = Script.rate,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines instead of the live view.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the services running at the end.")] = False,
) -> None:
    """Watch a loop close by itself: drift, retraining, gate, canary, new champion, accuracy back (3 minutes).

    Starts real Kafka and the six services in a fresh folder, plays the electricity market through them, and after
    some thousand rows turns the market round. Where no Kafka can be had (no package registry, no Java), it says so
    and runs on the memory bus. Exit status 1 if the loop did not close.
    """
    console = Console()
    folder = Path(data) if data else data_folder(None) / "demo"
    spec, rows = EXAMPLES / LOOP / "loop.yaml", EXAMPLES / LOOP / "electricity.csv.gz"
    if not rows.exists():
        console.print(f"The demo's stream is not at {rows}; run it from a clone of the project.", style="red")
        raise typer.Exit(1)
    _everloop("down", "--data", str(folder))
    if folder.exists():
        shutil.rmtree(folder)
    script = replace(Script(), rate=rate)
    story = Story(script.onset_id)
    try:
        if _everloop("up", "--data", str(folder), "--ports", "auto", "--detach", *_bus(console)):
            raise typer.Exit(1)
        if _everloop("apply", "-f", str(spec), "--data", str(folder)):
            raise typer.Exit(1)
        installation = find_installation(str(folder))
        with suppress(KeyboardInterrupt):
            asyncio.run(_run(console, installation, rows, script, story, plain or not console.is_terminal))
        _finish(console, folder, story, keep)
    finally:
        if not keep:
            _everloop("down", "--data", str(folder))


def _bus(console: Console) -> list[str]:
    """The options of `up` that name the bus; says so plainly where it is not Kafka."""
    try:
        with show.download(Console(stderr=True)) as progress:
            why = why_no_kafka(lambda: jars.fetch(progress), check_java)
    except InstallationError as e:
        show.problem(console, e)
        raise typer.Exit(1) from e
    if why is None:
        return []
    console.print(f"No Kafka can be had here: {why}", style="bold yellow", markup=False, soft_wrap=True)
    console.print(
        "The demo runs on the memory bus instead: the same six services and the same events, in one process, "
        "with no broker; nothing survives its end, and it proves nothing about crashes.",
        style="yellow",
    )
    return ["--bus", "memory"]


def _everloop(*args: str) -> int:
    return subprocess.run([sys.executable, "-m", "everloop", *args], check=False).returncode


async def _run(
    console: Console, installation: Installation, rows: Path, script: Script, story: Story, plain: bool
) -> None:
    sent = 0

    def progress(count: int) -> None:
        nonlocal sent
        sent = count

    async with AsyncEverloop(str(installation.folder)) as client:
        following = asyncio.create_task(follow(reader(installation, TOPICS, "demo"), LOOP, story))
        playing = asyncio.create_task(play(client, LOOP, rows, script, progress))
        showing = asyncio.create_task(
            _lines(console, story) if plain else _live(console, story, script, lambda: sent, installation)
        )
        try:
            await _first_of(playing, following, showing)
            deadline = asyncio.get_running_loop().time() + PATIENCE_S
            while story.outcomes < script.rows and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.2)
        finally:
            for task in (playing, showing, following):
                task.cancel()
            await asyncio.gather(playing, showing, following, return_exceptions=True)


async def _first_of(playing: asyncio.Task[None], *others: asyncio.Task[None]) -> None:
    """Wait for the player; if one of the others ends first, it has failed, and says so."""
    await asyncio.wait([playing, *others], return_when=asyncio.FIRST_COMPLETED)
    for task in (*others, playing):
        if task.done():
            task.result()


async def _lines(console: Console, story: Story) -> None:
    told, milestone = 0, 0
    console.print("time      outcomes  what            why", highlight=False)
    while True:
        for moment in story.timeline[told:]:
            _tell(console, moment)
        told = len(story.timeline)
        if story.outcomes >= milestone + 500:
            milestone = story.outcomes // 500 * 500
            accuracy = "  ".join(f"{name} {story.rolling(name):.1%}" for name in ("served", "no_change", "majority"))
            console.print(f"          {milestone:>6,}  accuracy        {accuracy}", highlight=False, soft_wrap=True)
        await asyncio.sleep(0.2)


def _tell(console: Console, moment: Moment) -> None:
    console.print(line(moment), highlight=False, soft_wrap=True)


async def _live(
    console: Console, story: Story, script: Script, sent: Callable[[], int], installation: Installation
) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            after = sent() > script.before
            phase = "the market has turned round: watch the loop close" if after else "the market as it was"
            live.update(screen(story, script.rows, sent(), phase, installation.url("monitoring")), refresh=True)
            await asyncio.sleep(0.25)


def _finish(console: Console, folder: Path, story: Story, keep: bool) -> None:
    console.print()
    for moment in story.timeline if console.is_terminal else ():
        _tell(console, moment)
    console.print(report(story))
    missing = verdict(story).missing
    for what in missing:
        console.print(f"The loop did not close: {what}.", style="bold red")
    if missing:
        console.print(f"The logs are in {folder / 'logs'}.")
        raise typer.Exit(1)
    console.print("The loop closed by itself.", style="bold green")
    console.print(
        "Where to go next: the first loop of your own, in the README; "
        "`everloop demo --keep` leaves the services running; `everloop --help`."
    )
