"""`python -m tests.bench [figure ...]`: Everloop's own speed, beside the bare libraries it stands on."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from tests.bench.before import BEFORE
from tests.bench.figures import Figure, as_json, markdown, table
from tests.bench.installation import installation
from tests.bench.settings import QUICK, Settings

from everloop.local.kafka import start_broker
from everloop_models import library_versions

TOGETHER = ("memory", "loop", "latency", "replay")
"""These need a whole installation; the others start what they measure."""
GROUPS = {
    "REST": ("rest", "lists", "swaps", "workers", "neighbours"),
    "Open Inference Protocol": ("doors", "doors_grpc"),
    "The whole loop": ("loop", "floor", "latency", "serving", "feature", "traces", "replay"),
    "State": ("state", "parity", "memory", "growth"),
    "Data at rest": ("archive", "archive_memory"),
    "Parts": ("engine", "sources", "learner", "learners"),
    "Models of other frameworks": ("onnx", "lines"),
    "Searches": ("search", "search_ray"),
    "Drift": ("drift",),
}
NAMES = tuple(name for names in GROUPS.values() for name in names)
WITHOUT_BROKER = ("drift", "learner", "lines", "search", "search_ray", "archive", "archive_memory")
GIVEN = ("quick", "bootstrap", "broker_pid", "folder", "installation")


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; every size is an option."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="figure", help=f"any of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="only prove that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables of the performance page")
    for one in fields(Settings):
        if one.name not in GIVEN:
            kind = type(one.default)
            many = {"nargs": "+", "type": int} if kind is tuple else {"type": kind}
            parser.add_argument(f"--{one.name.replace('_', '-')}", default=None, help=f"default {one.default}", **many)
    chosen = parser.parse_args(argv)
    if unknown := set(chosen.figures) - set(NAMES):
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return chosen


def settings_of(chosen: argparse.Namespace) -> Settings:
    """The sizes: quick or full, changed by the options of the command line."""
    given = {f.name: getattr(chosen, f.name) for f in fields(Settings) if f.name not in GIVEN}
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None}
    return replace(QUICK if chosen.quick else Settings(), **options)


async def bench(names: Sequence[str], settings: Settings, report: Callable[[str], None]) -> list[Figure]:
    """Measure the figures of these names; quick, the installation and the rest at the same time."""
    task = asyncio.current_task()
    assert task is not None, "runs as a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # else its processes would run on
    async with AsyncExitStack() as stack:
        if any(name not in WITHOUT_BROKER for name in names):
            broker = await start_broker(settings.folder / "broker")
            stack.push_async_callback(broker.stop)
            settings = replace(settings, bootstrap=broker.bootstrap, broker_pid=broker.pid)
        alone, together = [n for n in NAMES if n in names and n not in TOGETHER], [n for n in TOGETHER if n in names]
        if settings.quick:
            found: Sequence[list[Figure]] = await asyncio.gather(
                _all(alone, settings, report), _in_installation(together, settings, report)
            )
        else:
            found = [await _all(alone, settings, report), await _in_installation(together, settings, report)]
    order = list(GROUPS)
    return sorted((figure for part in found for figure in part), key=lambda figure: order.index(figure.group))


async def _all(names: Sequence[str], settings: Settings, report: Callable[[str], None]) -> list[Figure]:
    figures: list[Figure] = []
    for name in names:
        measure: Callable[[Settings], Awaitable[list[Figure]]] = import_module(f"tests.bench.{name}").measure
        report(f"measuring {name}")
        [group] = [group for group, names_of in GROUPS.items() if name in names_of]
        for figure in await measure(settings):
            figures.append(replace(figure, group=group))
            report(f"  {figure.name}: {figure.ours:,.4g} {figure.unit}")
    return figures


async def _in_installation(names: Sequence[str], settings: Settings, report: Callable[[str], None]) -> list[Figure]:
    """Memory wants a fresh installation; the other figures share one."""
    figures: list[Figure] = []
    if "memory" in names and not settings.quick:
        figures += await _all(["memory"], settings, report)
    rest = [n for n in names if settings.quick or n != "memory"]
    if rest:
        async with installation(settings.folder / "installation", settings.bootstrap, "installation.") as shared:
            figures += await _all(rest, replace(settings, installation=shared), report)
    return figures


def about(settings: Settings) -> dict[str, Any]:
    """Where, when, and with what this was measured."""
    load = os.getloadavg()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load_before": [round(x, 2) for x in load],
        "libraries": library_versions(),
        "settings": {k: v for k, v in asdict(replace(settings, installation=None)).items() if k not in GIVEN},
        "quick": settings.quick,
    }


def main(argv: Sequence[str]) -> int:
    """Measure, show, write; the exit status is that of the run, whether the goals are met or not."""
    chosen = arguments(argv)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # topics come and go here
    console, errors = Console(width=160 if not sys.stdout.isatty() else None), Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="everloop-bench-", ignore_cleanup_errors=True) as folder:
        settings = replace(settings_of(chosen), folder=Path(folder))
        facts = about(settings)
        figures = asyncio.run(
            bench(chosen.figures or NAMES, settings, lambda what: errors.print(what, highlight=False))
        )
    if settings.quick:
        figures = [replace(figure, met=None) for figure in figures]
    console.print(
        table(
            figures, "It runs; these sizes are too small to measure speed" if settings.quick else "Everloop, measured"
        )
    )
    if chosen.json:
        chosen.json.write_text(as_json(figures, facts))
    if chosen.markdown:
        chosen.markdown.write_text(markdown(figures, BEFORE))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
