"""The `demo` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everloop.demo.stream import DemoStream
from everloop.extras import require_local
from everloop.local.discovery import data_folder


def register(app: typer.Typer) -> None:
    """Mount `demo`."""
    app.command("demo", epilog="Example: everloop demo --plain")(demo)


def demo(
    data: Annotated[str | None, typer.Option("--data", metavar="DIR", help="Folder of the demo.")] = None,
    rate: Annotated[float, typer.Option(help="Rows played a second.", min=1, max=500)] = DemoStream.rate,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines instead of the live view.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the services running at the end.")] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the console in a browser.")] = True,
) -> None:
    """Watch a loop close by itself: drift, retraining, gate, canary, new champion, accuracy back (3 minutes).

    Starts Kafka and the six services in a fresh folder, and plays the electricity market through them; some thousand
    rows later it inverts the labels. Where Kafka cannot run (no package registry, no Java), the demo says so and runs
    on the memory bus. Opens the console in a browser, unless --no-browser or --plain is given or there is no display.
    Exit status 1 if the loop did not close.
    """
    require_local("everloop demo")
    from everloop.demo import running

    running.demo(Path(data) if data else data_folder(None) / "demo", rate=rate, plain=plain, keep=keep, browser=browser)
