"""The command that shows a loop in the terminal, as it changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from everloop.cli import watching
from everloop.cli.collecting import collecting
from everloop.cli.output import Data, Json, Loop, print_json, print_result, print_stderr
from everloop.errors import EverloopError
from everloop.reports.facts import FactCollector, LoopFacts

RETRY_FOR_S = 2.0
"""Monitoring may restart; what it said last stays on the screen meanwhile."""
SHOWN = ("series", "timeline", "evaluation", "features", "alerts")
Once = Annotated[bool, typer.Option("--once", help="Print it once.")]
Every = Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="How often it is asked for.")]


def register(app: typer.Typer) -> None:
    """Mount it."""
    app.command("watch", epilog="Example: everloop watch churn")(watch)


def watch(loop: Loop, once: Once = False, every: Every = 1.0, data: Data = None, as_json: Json = False) -> None:
    """Watch a loop: its scores beside the baselines, its rollout, open alerts and their cause, drifts, and decisions.

    Ctrl-C ends it. Where standard output is no terminal, it prints a line whenever something has changed; with --json,
    a line of JSON each time.
    """
    with suppress(KeyboardInterrupt), collecting(data, loop, SHOWN, RETRY_FOR_S) as collector:  # the way to end it
        facts = collector.collect()  # a loop that there is not is said at once
        if as_json:
            _stream(facts, collector, every, once=once)
        elif once:
            print_result(watching.screen(facts))
        elif Console().is_terminal:
            _show(facts, collector, every)
        else:
            _print_lines(facts, collector, every)


def _show(facts: LoopFacts, collector: FactCollector, every: float) -> None:
    """Draw on a screen of its own, which is gone in the end."""
    note = ""
    with Live(screen=True, auto_refresh=False) as live:  # empty: Ctrl-C within its first drawing would leave the screen
        while True:
            live.update(watching.screen(facts, note), refresh=True)
            time.sleep(every)
            try:
                facts, note = collector.collect(), ""
            except EverloopError as e:
                note = f"no answer, trying again: {e}"


def _print_lines(facts: LoopFacts, collector: FactCollector, every: float) -> None:
    last = ""
    for found in _repeated(facts, collector, every):
        if (told := watching.line(found)) != last:
            print_result(told)
        last = told


def _stream(facts: LoopFacts, collector: FactCollector, every: float, *, once: bool) -> None:
    for found in _repeated(facts, collector, every):
        print_json({"loop": found.loop, "status": found.status, **found.parts})
        if once:
            return


def _repeated(facts: LoopFacts, collector: FactCollector, every: float) -> Iterator[LoopFacts]:
    """The facts, again and again; a service that does not answer is waited for."""
    yield facts
    while True:
        time.sleep(every)
        try:
            facts = collector.collect()
        except EverloopError as e:
            print_stderr(f"everloop: {e}; trying again")
            continue
        yield facts
