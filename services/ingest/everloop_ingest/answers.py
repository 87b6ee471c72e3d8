"""What the door says back, and how its pages under /docs describe it."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from everloop_ingest.domain.documents import CLOUDEVENT, JSON, NDJSON
from everloop_ingest.handlers import Received
from everloop_shared.errors import InputRejected


def answer(received: Received, alone: bool) -> JSONResponse:
    """202 when all was good, 207 when some was, 422 when nothing was; `alone` was sent as one entry."""
    body: dict[str, Any] = {"accepted": len(received.ids), "ids": received.ids}
    if not received.rejected:
        return JSONResponse(body, 202)
    body["rejected"] = [
        {"index": r.index, "id": r.id, "errors": [{"field": e.field, "error": e.error} for e in r.errors]}
        for r in received.rejected
    ]
    if received.ids:
        return JSONResponse(body, 207)
    first = received.rejected[0].errors[0]
    which = "it does" if alone else f"none of {len(received.rejected):,} entries does"
    detail = f"{which} not fit the loop; {'' if alone else 'the first: '}{first.field} {first.error}"
    problem: dict[str, Any] = {"type": "about:blank", "title": InputRejected.title, "status": 422, "detail": detail}
    problem |= {"code": InputRejected.code, "errors": body["rejected"][0]["errors"]}
    return JSONResponse(problem | body, 422, media_type="application/problem+json")


_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"description": "The broker has all of it: `accepted`, and `ids` in the order they were sent."},
    207: {"description": "Only some was good: `rejected` says, for each of the others, its index and errors."},
    400: {"description": "The body is not JSON (or NDJSON)."},
    404: {"description": "Nobody has applied a loop of this name."},
    413: {"description": "Too many bytes, or too many entries, in one request."},
    415: {"description": "A content type this door does not read."},
    422: {"description": "Nothing in it fits the loop; `errors` name the fields and the fix."},
    429: {"description": "Too much waits for the broker already; send it again after `Retry-After` seconds."},
    503: {"description": "The broker is away; send it again after `Retry-After` seconds."},
}

_EXAMPLES: dict[str, dict[str, Any]] = {
    "events": {"id": "order-17", "entity": "shop-3", "time": "2024-05-01T12:00:00Z", "data": {"price": 12.5}},
    "labels": {"id": "order-17", "label": True},
    "feedback": {"id": "order-17", "correct": False, "comment": "paid in cash", "source": "desk"},
}

_CLOUDEVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "order-17",
    "source": "/shop",
    "type": "order.placed",
    "subject": "shop-3",
    "data": {"price": 12.5},
}


def _described(door: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        JSON: {"schema": {"type": "object"}, "example": _EXAMPLES[door]},
        NDJSON[0]: {"schema": {"type": "string"}},
    }
    if door == "events":
        content[CLOUDEVENT] = {"schema": {"type": "object"}, "example": _CLOUDEVENT}
    return {"responses": _RESPONSES, "extra": {"requestBody": {"required": True, "content": content}}}


DOCS: dict[str, dict[str, Any]] = {door: _described(door) for door in _EXAMPLES}
