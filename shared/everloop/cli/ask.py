"""Requests to the services, with answers in JSON, where the client has no method for them."""

from __future__ import annotations

from typing import Any

from everloop.client import Everloop
from everloop.wire import JSON, read_json

RETRY_FOR_S = 10.0
COMMAND_RETRY_FOR_S = 30.0


def patient(data: str | None) -> Everloop:
    """The client for commands, which change something."""
    return Everloop(data, retry_for=COMMAND_RETRY_FOR_S)


def ask(
    service: str,
    path: str,
    data: str | None,
    *,
    method: str = "GET",
    content: bytes | None = None,
    content_type: str = JSON,
    retry_for: float = RETRY_FOR_S,
) -> Any:
    """The JSON that a service answers. Raises EverloopError."""
    with Everloop(data, retry_for=retry_for) as client:
        return ask_by(client, service, path, method, content, content_type)


def ask_by(
    client: Everloop,
    service: str,
    path: str,
    method: str = "GET",
    content: bytes | None = None,
    content_type: str = JSON,
) -> Any:
    """As `ask`, by a client that stays open."""
    return read_json(client.request(service, method, path, content, content_type))
