"""The ports of a local installation: on loopback, and below the range of outgoing connections."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Collection, Mapping

from everloop.local.errors import PortInUse
from everloop_schemas.topology import SERVICES, ports_from

HOST = "127.0.0.1"
GRPC = SERVICES["serving"]
"""The service that also listens for gRPC."""
DEFAULT_BASE = min(service.port for service in SERVICES.values())
HIGHEST = 65_535
HIGHEST_BASE = HIGHEST - max(ports_from(0).values())
FREE_PORTS = range(15_000, 32_000)
"""Linux hands out source ports from 32768 up: a client that retries a dead port there may connect to itself, and then
the service cannot listen on its port again."""


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(taken: set[int] | None = None) -> int:
    """Return a free loopback port that is not among `taken`."""
    for port in random.sample(FREE_PORTS, 500):
        if port not in (taken or ()) and is_free(port):
            return port
    between = f"{FREE_PORTS.start} and {FREE_PORTS.stop}"
    raise PortInUse(f"No free port between {between} on {HOST}.", "End the programs that listen there.")


def choose(choice: str, kept: Collection[int] = ()) -> dict[str, int]:
    """Return a port per service for `auto` (none of `kept`) or a base number. Raises PortInUse, naming the port."""
    if choice == "auto":
        ports: dict[str, int] = {}
        for service in SERVICES:
            ports[service] = free_port({*kept, *ports.values()})
        return ports
    ports = ports_from(int(choice))
    check(ports)
    return ports


def choose_grpc(choice: str, kept: Collection[int] = ()) -> int:
    """Return the port of serving for gRPC; 0 switches it off. EVERLOOP_SERVING_GRPC_PORT overrides the choice.

    A base number has it at the same distance as by default. Raises PortInUse, naming the port.
    """
    given = os.environ.get(GRPC.variable("grpc_port"), "")
    default = (GRPC.grpc_port or 0) - DEFAULT_BASE
    if not given and (choice == "auto" or int(choice) + default > HIGHEST):
        return free_port(set(kept))
    if given and not (given.isdecimal() and int(given) <= HIGHEST):
        fix = f"Set it to a port up to {HIGHEST}, or to 0 to do without gRPC."
        raise PortInUse(f"{GRPC.variable('grpc_port')}={given!r} is no port.", fix)
    port = int(given or int(choice) + default)
    if port and not is_free(port):
        fix = (
            f"End the program that listens there, or choose another: {GRPC.variable('grpc_port')}=9015, or 0 for none."
        )
        raise PortInUse(f"Port {port}, which serving needs for gRPC, is in use (or not allowed) on {HOST}.", fix)
    return port


def check(ports: Mapping[str, int]) -> None:
    """Raise PortInUse for the first port that is taken."""
    for service, port in ports.items():
        if not is_free(port):
            fix = "End the program that listens there, or choose others: everloop up --ports auto, or --ports 9001."
            raise PortInUse(f"Port {port}, which {service} needs, is in use (or not allowed) on {HOST}.", fix)
