"""Starts, watches and stops the local installation for its commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console

from everloop.extras import require_module
from everloop.local import folder_lock, jars, launch, ports, processes, show
from everloop.local.discovery import FILE
from everloop.local.errors import InstallationError, InstallationNotReady, InstallationRunsAlready
from everloop.local.kafka import kept_ports
from everloop.local.keys import make_keys
from everloop.local.plan import Bus, InstallationPlan
from everloop.local.signing_in import sign_in_address

READY_AGAIN_WITHIN_S = 120.0
"""How long `up` waits for an installation that another `up` has started."""
MEMORY = "The memory bus: six services in one process, without Kafka, to try it out. All data is gone when it stops."


@dataclass(frozen=True)
class Wanted:
    """What an installation is to be started with: the user's own cluster, None for Kafka at hand; the bus; the ports.

    `tls` has certificates made, `auth` keys.
    """

    kafka: str | None
    bus: Bus
    port_choice: str
    tls: bool
    auth: bool


def up(folder: Path, wanted: Wanted, *, detach: bool, as_json: bool) -> None:
    """Start the installation of this folder, or show the one that runs. Raises InstallationError."""
    console = Console(stderr=True)
    if wanted.tls and not wanted.kafka:
        require_module("everloop up --tls", "confluent_kafka", "pip install 'everloop[acls]'")
    launch.check_folder(folder)
    with _interruptible():
        if launched := _launch(console, folder, wanted, detach=detach):
            _wait(console, launched, detach=detach, as_json=as_json)
        else:
            _show_running(console, folder, as_json)


def down(folder: Path) -> None:
    """Stop the installation of this folder. Raises InstallationError."""
    console = Console(stderr=True)
    with show.waiting(console) as report:
        report("stopping")
        ran = launch.stop(folder)
        left = processes.of_installation(folder)
    if left:
        names = ", ".join(f"{p.pid} {p.name()}" for p in left)
        raise InstallationError(f"Still running: {names}.", "End them by their pid, with kill -9.")
    stopped, nothing = f"The local installation at {folder} is stopped.", f"No local installation runs at {folder}."
    console.print(stopped if ran else nothing, soft_wrap=True)


def fetch_kafka(*, as_json: bool) -> None:
    """Download Kafka's jars, or verify those that are there. Raises InstallationError."""
    console = Console(stderr=True)
    with show.download(console) as progress:
        files = jars.fetch(progress)
    folder = files[0].parent
    if as_json:
        typer.echo(json.dumps({"version": jars.VERSION, "folder": str(folder), "jars": len(files)}))
    else:
        what = f"Apache Kafka {jars.VERSION} is complete and verified: {len(files)} jars in {folder}"
        console.print(what, soft_wrap=True, highlight=False)


def _launch(console: Console, folder: Path, wanted: Wanted, *, detach: bool) -> launch.Launched | None:
    """Start the supervisor; None when one runs already, or another `up` was faster."""
    if folder_lock.holder(folder) is not None:
        return None
    if wanted.bus is Bus.MEMORY:
        console.print(MEMORY, highlight=False, soft_wrap=True)
    elif wanted.kafka:
        asyncio.run(launch.check_cluster(wanted.kafka))
    else:
        with show.download(console) as progress:
            jars.fetch(progress)
    try:
        with folder_lock.hold(folder) as lock:
            _end_orphans(console, folder)
            kept = kept_ports(folder)
            chosen = ports.choose(wanted.port_choice, kept)
            grpc_port = ports.choose_grpc(wanted.port_choice, {*kept, *chosen.values()})
            if wanted.bus is Bus.MEMORY:
                plan = InstallationPlan.in_memory(folder, chosen)
            else:
                plan = InstallationPlan.of(folder, chosen, wanted.kafka)
            certificates = _make_certificates(folder) if wanted.tls else None
            access = make_keys(folder) if wanted.auth else None
            plan = replace(plan, grpc_port=grpc_port, certificates=certificates, access=access)
            return launch.launch(plan, lock, detach=detach)
    except InstallationRunsAlready:
        return None


def _make_certificates(folder: Path) -> str:
    from everloop.certs.folder import ensure_certificates  # X.509, which other starts do without

    ensure_certificates(folder / "certs")
    return str(folder / "certs")


def _end_orphans(console: Console, folder: Path) -> None:
    left = processes.of_installation(folder)
    if left:  # their supervisor was killed; they hold the ports
        console.print(f"Ending {len(left)} processes that an earlier supervisor left in this folder.", highlight=False)
        processes.end_all(left)
    (folder / FILE).unlink(missing_ok=True)


def _wait(console: Console, launched: launch.Launched, *, detach: bool, as_json: bool) -> None:
    folder = launched.plan.home
    try:
        with show.waiting(console) as report:
            bus = "Kafka" if launched.plan.bus is Bus.KAFKA else "the memory bus"
            listed = launch.wait_ready(folder, lambda: launched.process.poll() is None, report, bus=bus)
    except InstallationNotReady as e:
        fix = e.fix or launched.log_since_start()
        launched.stop()
        raise InstallationNotReady(e.what, fix) from None
    except KeyboardInterrupt:
        launched.stop()
        raise typer.Exit(1) from None
    show_installation(console, listed, f"Everloop runs on {folder}", as_json)
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
        raise InstallationError("The supervisor ended.", launched.log_since_start())


def _show_running(console: Console, folder: Path, as_json: bool) -> None:
    with show.waiting(console) as report:
        held = lambda: folder_lock.holder(folder) is not None  # noqa: E731
        listed = launch.wait_ready(folder, held, report, within_s=READY_AGAIN_WITHIN_S)
    show_installation(console, listed, f"Everloop runs already on {folder}", as_json)


def show_installation(console: Console, listed: dict[str, Any], title: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(listed))
    else:
        show.endpoints(console, listed, title)
        if console.is_terminal and "token" in listed:  # a code is for the person who sees it, not for a log
            show.sign_in(console, _sign_in_address(Path(listed["token"]).parent))


def _sign_in_address(folder: Path) -> str:
    """The address, or why there is none: the installation runs all the same."""
    try:
        return sign_in_address(folder)
    except InstallationError as e:
        return f"{e.what} {e.fix}"


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
