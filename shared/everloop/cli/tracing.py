"""What `everloop lineage` shows of one prediction, version, run or drift."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import typer
from rich.text import Text
from rich.tree import Tree

from everloop.cli.ask import RETRY_FOR_S, ask_by
from everloop.cli.output import print_json, print_result, printable
from everloop.client import Everloop
from everloop.extras import require_local
from everloop.lineage import trace
from everloop.lineage.collect import Ask
from everloop.lineage.trace import Trace


def show_trace(
    loop: str,
    asked: Mapping[str, str],
    data: str | None,
    as_json: bool,
    role: str | None,
    before: int | None,
    limit: int,
) -> None:
    """Print where the one thing that was asked about came from, and what came of it."""
    if len(asked) != 1:
        raise typer.BadParameter("give one of --prediction, --version, --run and --drift")
    [(kind, name)] = asked.items()
    if (role and kind != "version") or (before and kind != "run"):
        raise typer.BadParameter("--role goes with --version, and --before with --run")
    tracers: Mapping[str, Callable[[Ask], Trace]] = {
        "prediction": lambda ask: trace.trace_prediction(loop, _prediction(loop, name, ask, data), ask),
        "version": lambda ask: trace.trace_version(loop, name, ask, role, limit),
        "run": lambda ask: trace.trace_run(loop, name, ask, before, limit),
        "drift": lambda ask: trace.trace_drift(loop, name, ask, limit),
    }
    with Everloop(data, retry_for=RETRY_FOR_S) as client:
        found = tracers[kind](partial(ask_by, client))
    print_json(asdict(found)) if as_json else print_result(_tree(loop, found))


def _prediction(loop: str, prediction: str, ask: Ask, data: str | None) -> Mapping[str, Any]:
    """From the services where they have it still, else from the topic, which keeps 30 days."""
    if (found := trace.find_prediction(loop, prediction, ask)) is not None:
        return found
    require_local("everloop lineage --prediction, for one that is neither in serving's memory nor among the latest,")
    from everloop.explaining.record import find_record
    from everloop.local.discovery import find_installation

    recorded = asyncio.run(find_record(find_installation(data), prediction, loop))
    made = recorded.event.data
    about = {"prediction": made.prediction, "version": made.version, "role": made.role, "entity": made.entity}
    return {"id": prediction, "time": recorded.event.time.isoformat(), **about}


def _tree(loop: str, found: Trace) -> Tree:
    """The lines as a tree below the loop."""
    tree = Tree(Text(f"loop {loop}"))
    above = [tree]
    for depth, line in trace.lines_of(found):
        del above[depth + 1 :]
        above.append(above[-1].add(Text(printable(line))))
    return tree
