"""The commands of the local installation: up, down, kafka fetch."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from everloop.extras import require_local
from everloop.local import ports
from everloop.local.discovery import data_folder
from everloop.local.plan import Bus

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
    Bus, typer.Option("--bus", help="memory: all in one process, without Kafka, to try it out; nothing is kept.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Return once everything is ready; logs go to DIR/logs.")]
Tls = Annotated[
    bool,
    typer.Option("--tls", help="TLS everywhere, by certificates made in DIR/certs; a Kafka user for each service."),
]
Auth = Annotated[
    bool, typer.Option("--auth", help="Ask for tokens; DIR/token has one for the command and clients on this machine.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the endpoints as JSON on standard output.")]


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
    port_choice: Ports = str(ports.DEFAULT_BASE),
    tls: Tls = False,
    auth: Auth = False,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Start Kafka and the six services on this machine, and keep them running until Ctrl-C or `everloop down`."""
    _check_usage(kafka, bus, port_choice, tls)
    require_local("everloop up")
    from everloop.local import running

    wanted = running.Wanted(kafka, bus, port_choice, tls, auth)
    running.up(data_folder(data), wanted, detach=detach, as_json=as_json)


def down(data: Data = None) -> None:
    """Stop everything that `up` started in a data folder; also fine when nothing runs."""
    require_local("everloop down")
    from everloop.local import running

    running.down(data_folder(data))


def fetch(as_json: Annotated[bool, typer.Option("--json", help="Print the folder as JSON.")] = False) -> None:
    """Download Apache Kafka into the cache of this user, or verify the files that are there."""
    require_local("everloop kafka fetch")
    from everloop.local import running

    running.fetch_kafka(as_json=as_json)


def _check_usage(kafka: str | None, bus: Bus, port_choice: str, tls: bool) -> None:
    if tls and bus is Bus.MEMORY:
        raise typer.BadParameter(
            "the memory bus is to try things out, without TLS; leave out --bus", param_hint="--tls"
        )
    if kafka is not None and bus is Bus.MEMORY:
        raise typer.BadParameter("the memory bus has no cluster; leave out --kafka or --bus", param_hint="--bus")
    if kafka is not None and not re.fullmatch(r"[^\s,:]+:\d{1,5}(,[^\s,:]+:\d{1,5})*", kafka):
        raise typer.BadParameter(f"{kafka!r} is not HOST:PORT, such as 127.0.0.1:9092", param_hint="--kafka")
    if port_choice != "auto" and not (port_choice.isdecimal() and 1 <= int(port_choice) <= ports.HIGHEST_BASE):
        hint = f"{port_choice!r} is neither auto nor a port from 1 to {ports.HIGHEST_BASE}"
        raise typer.BadParameter(hint, param_hint="--ports")
