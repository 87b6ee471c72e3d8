"""The commands of the local installation: up, down, kafka fetch."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from everloop.local import folder_lock, jars, launch, ports, processes, show
from everloop.local.discovery import FILE, data_folder
from everloop.local.errors import InstallationError, InstallationNotReady, InstallationRunsAlready
from everloop.local.kafka import kept_ports
from everloop.local.plan import Bus, Plan

RUNS_ALREADY_WITHIN_S = 120.0
MEMORY = "The memory bus: six services in one process, without Kafka, for a look. All of it is gone when it stops."

Data = Annotated[
    str | None, typer.Option("--data", metavar="DIR", help="Data folder. Default: EVERLOOP_DATA, else .everloop.")
]
Kafka = Annotated[
    str | None, typer.Option("--kafka", metavar="HOST:PORT", help="Use your own cluster instead of Kafka at hand.")
]
Ports = Annotated[
    str,
    typer.Option("--ports", metavar="auto|BASE", help="Free ports, or BASE for ingest up to BASE+5 for monitoring."),
]
OnBus = Annotated[
    Bus, typer.Option("--bus", help="memory: all in one process, without Kafka, for a look; nothing is kept.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Return once everything is ready; logs go to DIR/logs.")]
Json = Annotated[bool, typer.Option("--json", help="Print the doors as JSON on standard output.")]


def register(app: typer.Typer) -> None:
    """Mount `up`, `down` and `kafka fetch`."""
    app.command("up", epilog="Example: everloop up --data .everloop --ports auto --detach")(up)
    app.command("down", epilog="Example: everloop down --data .everloop")(down)
    kafka = typer.Typer(no_args_is_help=True, help="Kafka at hand: the broker that `up` starts.")
    kafka.callback()(_kafka)
    kafka.command("fetch", epilog="Example: everloop kafka fetch")(fetch)
    app.add_typer(kafka, name="kafka")


def _kafka() -> None:
    pass


def up(
    data: Data = None,
    kafka: Kafka = None,
    bus: OnBus = Bus.KAFKA,
    port_wish: Ports = str(ports.DEFAULT_BASE),
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Start the installation: Kafka and the six services, kept alive until Ctrl-C or `everloop down`."""
    _check_usage(kafka, bus, port_wish)
    folder = data_folder(data)
    console = Console(stderr=True)
    try:
        launch.check_folder(folder)
        with _interruptible():
            if launched := _launch(console, folder, kafka, bus, port_wish, detach=detach):
                _stand(console, launched, detach=detach, as_json=as_json)
            else:
                _runs_already(console, folder, as_json)
    except InstallationError as e:
        _fail(console, e)


def down(data: Data = None) -> None:
    """Stop the installation of a data folder, all of it; also fine when nothing runs."""
    folder = data_folder(data)
    console = Console(stderr=True)
    with show.waiting(console) as tell:
        tell("stopping")
        ran = launch.stop(folder)
        left = processes.of_installation(folder)
    if left:
        names = ", ".join(f"{p.pid} {p.name()}" for p in left)
        _fail(console, InstallationError(f"Still running: {names}.", "End them by their pid, with kill -9."))
    stopped, nothing = f"The local installation at {folder} is stopped.", f"No local installation runs at {folder}."
    console.print(stopped if ran else nothing, soft_wrap=True)


def fetch(as_json: Annotated[bool, typer.Option("--json", help="Print where it is as JSON.")] = False) -> None:
    """Download Apache Kafka into the cache of this user, or verify what is there."""
    console = Console(stderr=True)
    try:
        with show.download(console) as progress:
            files = jars.fetch(progress)
    except InstallationError as e:
        _fail(console, e)
    folder = files[0].parent
    if as_json:
        typer.echo(json.dumps({"version": jars.VERSION, "folder": str(folder), "jars": len(files)}))
    else:
        what = f"Apache Kafka {jars.VERSION} is complete and verified: {len(files)} jars in {folder}"
        console.print(what, soft_wrap=True, highlight=False)


def _check_usage(kafka: str | None, bus: Bus, port_wish: str) -> None:
    if kafka is not None and bus is Bus.MEMORY:
        raise typer.BadParameter("the memory bus has no cluster; leave out --kafka or --bus", param_hint="--bus")
    if kafka is not None and not re.fullmatch(r"[^\s,:]+:\d{1,5}(,[^\s,:]+:\d{1,5})*", kafka):
        raise typer.BadParameter(f"{kafka!r} is not HOST:PORT, such as 127.0.0.1:9092", param_hint="--kafka")
    if port_wish != "auto" and not (port_wish.isdecimal() and 1 <= int(port_wish) <= ports.HIGHEST_BASE):
        hint = f"{port_wish!r} is neither auto nor a port from 1 to {ports.HIGHEST_BASE}"
        raise typer.BadParameter(hint, param_hint="--ports")


def _launch(
    console: Console, folder: Path, kafka: str | None, bus: Bus, port_wish: str, *, detach: bool
) -> launch.Launched | None:
    """Start the supervisor; None when one runs already, or another `up` was faster."""
    if folder_lock.holder(folder) is not None:
        return None
    if bus is Bus.MEMORY:
        console.print(MEMORY, highlight=False, soft_wrap=True)
    elif kafka:
        asyncio.run(launch.check_cluster(kafka))
    else:
        with show.download(console) as progress:
            jars.fetch(progress)
    try:
        with folder_lock.hold(folder) as lock:
            _end_orphans(console, folder)
            listening = ports.plan(port_wish, kept_ports(folder))
            memory = bus is Bus.MEMORY
            plan = Plan.in_memory(folder, listening) if memory else Plan.of(folder, listening, kafka)
            return launch.launch(plan, lock, detach=detach)
    except InstallationRunsAlready:
        return None


def _end_orphans(console: Console, folder: Path) -> None:
    left = processes.of_installation(folder)
    if left:  # their supervisor was killed; they hold the ports
        console.print(f"Ending {len(left)} processes of an earlier installation in this folder.", highlight=False)
        processes.end_all(left)
    (folder / FILE).unlink(missing_ok=True)


def _stand(console: Console, launched: launch.Launched, *, detach: bool, as_json: bool) -> None:
    folder = launched.plan.home
    try:
        with show.waiting(console) as tell:
            bus = "Kafka" if launched.plan.bus is Bus.KAFKA else "the memory bus"
            listed = launch.wait_ready(folder, lambda: launched.process.poll() is None, tell, bus=bus)
    except InstallationNotReady as e:
        fix = e.fix or launched.said()
        launched.stop()
        raise InstallationNotReady(e.what, fix) from None
    except KeyboardInterrupt:
        launched.stop()
        raise typer.Exit(1) from None
    _show(console, listed, f"Everloop runs on {folder}", as_json)
    if detach:
        launched.let_go()
    else:
        _watch(console, launched)


def _watch(console: Console, launched: launch.Launched) -> None:
    console.print("Ctrl-C stops it.", highlight=False)
    try:
        status = launched.process.wait()
    except KeyboardInterrupt:
        console.print("stopping")
        launched.stop()
        return
    if status:
        _fail(console, InstallationError("The supervisor ended.", launched.said()))


def _runs_already(console: Console, folder: Path, as_json: bool) -> None:
    with show.waiting(console) as tell:
        held = lambda: folder_lock.holder(folder) is not None  # noqa: E731
        listed = launch.wait_ready(folder, held, tell, within_s=RUNS_ALREADY_WITHIN_S)
    _show(console, listed, f"Everloop runs already on {folder}", as_json)


def _show(console: Console, listed: dict[str, Any], title: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(listed))
    else:
        show.doors(console, listed, title)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Make SIGTERM the same way out as Ctrl-C."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(console: Console, error: InstallationError) -> NoReturn:
    show.problem(console, error)
    raise typer.Exit(1)
