"""Free ports on loopback."""

from __future__ import annotations

import random
import socket

from kubernetes_rig.errors import RigError

HOST = "127.0.0.1"
FREE_PORTS = range(15_000, 32_000)
"""Below those that Linux gives to outgoing connections."""


def free_ports(count: int) -> list[int]:
    """Ports of which none is in use now."""
    found = []
    for port in random.sample(FREE_PORTS, 500):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RigError(f"There are no {count} free ports on {HOST} between {FREE_PORTS.start} and {FREE_PORTS.stop}.")
