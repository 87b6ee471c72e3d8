"""What the clients ask about loops, and the commands that they give: pure functions, shared by sync and async."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

from everloop.errors import EverloopError, EverloopHTTPError, EverloopUnreachable
from everloop.retry import RETRIED
from everloop.wire import JSON, loop_path, query, read_json, to_json

Moment = str | datetime | None
DECIDED = "decided by a client"
REQUESTED = "requested by a client"


class LoopRequest(NamedTuple):
    """A request about a loop: the arguments of the clients' `request`."""

    service: str
    method: str
    path: str
    content: bytes | None = None
    content_type: str = JSON


def get_loop(loop: str, service: str = "registry") -> LoopRequest:
    """What a service knows of the loop; each answers with the revision that it uses."""
    return LoopRequest(service, "GET", loop_path(loop))


def get_status(loop: str) -> LoopRequest:
    """The counts, the version that serves, and its scores."""
    return LoopRequest("monitoring", "GET", loop_path(loop, "status"))


def get_runs(loop: str) -> LoopRequest:
    """The runs."""
    return LoopRequest("training", "GET", loop_path(loop, "runs"))


def get_versions(loop: str, as_of: Moment) -> LoopRequest:
    """The registered versions, now or at a moment."""
    return LoopRequest("registry", "GET", loop_path(loop, "versions") + query(as_of=as_of))


def get_history(loop: str, as_of: Moment) -> LoopRequest:
    """The decisions, all or those until a moment."""
    return LoopRequest("registry", "GET", loop_path(loop, "history") + query(as_of=as_of))


def get_alerts(loop: str, every: bool) -> LoopRequest:
    """The open alerts, or what happened to alerts lately."""
    return LoopRequest("monitoring", "GET", loop_path(loop, "alerts") + query(state=None if every else "open"))


def get_drifts(loop: str, limit: int | None, early: bool) -> LoopRequest:
    """The latest drifts."""
    asked = query(limit=limit, early="true" if early else None)
    return LoopRequest("monitoring", "GET", loop_path(loop, "drifts") + asked)


def put_loop(loop: str, content: bytes, content_type: str) -> LoopRequest:
    """Apply a loop file."""
    return LoopRequest("registry", "PUT", loop_path(loop), content, content_type)


def delete_loop(loop: str, reason: str) -> LoopRequest:
    """Delete a loop."""
    return LoopRequest("registry", "DELETE", loop_path(loop) + query(reason=reason))


def request_run(loop: str, reason: str, key: str | None) -> LoopRequest:
    """Start a run. One key for all its attempts is made here where none is given."""
    return LoopRequest(
        "training", "POST", loop_path(loop, "runs"), to_json(dict(reason=reason, key=key or uuid4().hex))
    )


def command(loop: str, verb: str, **body: Any) -> LoopRequest:
    """Give the registry a command about a loop, without what is None in its body."""
    given = {name: value for name, value in body.items() if value is not None}
    return LoopRequest("registry", "POST", loop_path(loop, verb), to_json(given))


def read(response: httpx.Response) -> dict[str, Any]:
    """The object of an answer. Raises EverloopHTTPError for a refusal."""
    body: dict[str, Any] = read_json(response)
    return body


def read_rows(response: httpx.Response, part: str | None = None) -> list[dict[str, Any]]:
    """The list of an answer, or that in a part of it. Raises EverloopHTTPError for a refusal."""
    body = read_json(response)
    rows: list[dict[str, Any]] = body if part is None else body[part]
    return rows


def find_revision(response: httpx.Response) -> int | None:
    """The revision that a service knows; None for a loop that it does not know. Raises EverloopHTTPError."""
    return None if response.status_code == 404 else int(read(response)["revision"])


def may_pass(error: EverloopError) -> bool:
    """Whether the same request may succeed later."""
    return isinstance(error, EverloopUnreachable) or (isinstance(error, EverloopHTTPError) and error.status in RETRIED)
