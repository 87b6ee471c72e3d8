"""Who is at the other end of a connection."""

from __future__ import annotations

from urllib.parse import unquote


def address_of(peer: str) -> str:
    """The address in what gRPC says of a peer, such as `ipv4:10.0.0.1:5001` or `ipv6:%5B::1%5D:5001`."""
    _, _, where = unquote(peer).partition(":")
    return where.rpartition(":")[0].strip("[]")
