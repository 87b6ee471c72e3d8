"""Sends the record of a dead letter where monitoring plans that it goes: to ingest, or by monitoring on its topic."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from everloop.cli.ask import ask_by
from everloop.cli.output import CommandFailed
from everloop.client import Everloop
from everloop.errors import EverloopHTTPError
from everloop.wire import http_error


@dataclass(frozen=True)
class Sent:
    """What became of a letter; `new` is False where just this was sent before."""

    letter: str
    to: str
    event: str | None
    new: bool


def path_of(letter: str, verb: str = "") -> str:
    """The path of a letter, or of one of its verbs."""
    return f"/v1/dead-letters/{quote(letter, safe='')}{verb}"


def read_body(client: Everloop, letter: str) -> bytes:
    """What a repair begins with."""
    response = client.request("monitoring", "GET", path_of(letter, "/body"))
    if response.status_code >= 400:
        raise http_error(response)
    return response.content


def change(body: bytes, settings: Sequence[str]) -> bytes:
    """The body with these values: `path=value`, names separated by dots, the value in JSON or as text."""
    changed = _object(body)
    if changed is None:
        raise CommandFailed(
            "--set changes a JSON object, and this record is none: write it anew, and give it by --file"
        )
    for setting in settings:
        path, equals, value = setting.partition("=")
        *parents, name = path.split(".")
        if not equals or not all([*parents, name]):
            raise CommandFailed(f"{setting!r} is no PATH=VALUE, such as data.price=3.5")
        place = changed
        for parent in parents:
            inner = place.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise CommandFailed(f"{path}: {parent} is no object, so it has no {name}")
            place = inner
        place[name] = _value(value)
    return json.dumps(changed, ensure_ascii=False).encode()


def plan(client: Everloop, letter: str, repaired: bytes | None) -> Mapping[str, Any]:
    """Where a letter's record would go, as it was or repaired. Raises EverloopHTTPError where it can go nowhere."""
    planned: Mapping[str, Any] = _post(client, "monitoring", path_of(letter, "/plan"), _given(repaired))
    return planned


def send(client: Everloop, letter: str, repaired: bytes | None) -> Sent:
    """Send a letter's record, as it was or repaired. Raises EverloopError.

    A record for ingest goes to the ingest that this command knows; monitoring need not know it. Where ingest does not
    permit it, because the sender may send letters and not publish, monitoring gives it to ingest. A command that is
    killed between the two requests has sent it, and sends it again the next time: consumers know the event by its id.
    """
    planned = plan(client, letter, repaired)
    request = planned["request"]
    if request is None:
        return _send_by_monitoring(client, letter, repaired, planned["to"])
    try:
        ids = _post(client, "ingest", request["path"], request["body"])["ids"]
    except EverloopHTTPError as e:
        if e.status != 403:
            raise
        return _send_by_monitoring(client, letter, repaired, planned["to"])
    mark = {name: planned[name] for name in ("loop", "digest", "repaired")} | {"event": ids[0] if ids else letter}
    done = _post(client, "monitoring", path_of(letter, "/sent"), mark)
    return Sent(letter, planned["to"], ids[0] if ids else None, done["sent"])


def _send_by_monitoring(client: Everloop, letter: str, repaired: bytes | None, to: str) -> Sent:
    done = _post(client, "monitoring", path_of(letter, "/send"), _given(repaired))
    return Sent(letter, to, done["event"], done["sent"])


def _given(repaired: bytes | None) -> dict[str, str]:
    return {} if repaired is None else {"value": b64encode(repaired).decode()}


def _post(client: Everloop, service: str, path: str, body: Mapping[str, Any]) -> Any:
    return ask_by(client, service, path, "POST", json.dumps(body).encode())


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
