"""The responses of the three endpoints, and their documentation under /docs."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from everloop_ingest.api.schemas import Accepted, CloudEventEntry, Feedback, Label, PartlyAccepted
from everloop_ingest.domain.documents import JSON
from everloop_ingest.handlers import CheckedEntries
from everloop_shared.cloudevents import BATCH, STRUCTURED
from everloop_shared.errors import InputRejected
from everloop_shared.http.openapi import schema_of
from everloop_shared.http.schemas import Observation
from everloop_shared.strict_json import NDJSON


def response_of(checked: CheckedEntries, single: bool) -> JSONResponse:
    """202 if all entries were accepted, 207 if some were, 422 if none was; `single` for a request with one entry."""
    body: dict[str, Any] = {"accepted": len(checked.ids), "ids": checked.ids}
    if not checked.rejected:
        return JSONResponse(body, 202)
    body["rejected"] = [
        {"index": r.index, "id": r.id, "errors": [{"field": e.field, "error": e.error} for e in r.errors]}
        for r in checked.rejected
    ]
    if checked.ids:
        return JSONResponse(body, 207)
    first = checked.rejected[0].errors[0]
    subject = "the entry does" if single else f"none of {len(checked.rejected):,} entries does"
    detail = f"{subject} not fit the loop; {'' if single else 'the first: '}{first.field} {first.error}"
    problem: dict[str, Any] = {"type": "about:blank", "title": InputRejected.title, "status": 422, "detail": detail}
    problem |= {"code": InputRejected.code, "errors": body["rejected"][0]["errors"]}
    return JSONResponse(problem | body, 422, media_type="application/problem+json")


_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {
        "model": Accepted,
        "description": "The broker has all entries: `accepted`, and `ids` in the order they were sent.",
    },
    207: {
        "model": PartlyAccepted,
        "description": "Some entries were accepted; `rejected` has the index and errors of each other one.",
    },
    400: {"description": "The body is not JSON (or NDJSON)."},
    404: {"description": "There is no loop of this name."},
    413: {"description": "Too many bytes, or too many entries, in one request."},
    415: {"description": "A content type that is not supported."},
    422: {"description": "No entry fits the loop; `errors` name the fields and the fix."},
    429: {"description": "Too many events wait for the broker; retry after `Retry-After` seconds."},
    503: {"description": "Kafka is unreachable; retry after `Retry-After` seconds."},
}

RECORD_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"model": Accepted, "description": "The broker has what the record says: the ids of its event and its label."},
    404: {"description": "There is no loop of this name, or it has no such source."},
    422: {"description": "The record does not fit; `errors` name the fields and the fix."},
    503: _RESPONSES[503],
}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "events": {"id": "order-17", "entity": "shop-3", "time": "2024-05-01T12:00:00Z", "data": {"price": 12.5}},
    "labels": {"id": "order-17", "label": True},
    "feedback": {"id": "order-17", "correct": False, "comment": "paid in cash", "source": "counter-2"},
}

_CLOUDEVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "order-17",
    "source": "/shop",
    "type": "order.placed",
    "subject": "shop-3",
}
_READ = (
    f"One entry, a list of them, or a line each. CloudEvents are read under {STRUCTURED} and {BATCH} too, "
    "and in binary mode, whose attributes are `ce-` headers."
)
"""Media types with the same schema as another are named here only: a generated client would not know which to send."""
_ENTRIES: dict[str, type[BaseModel]] = {"events": Observation, "labels": Label, "feedback": Feedback}
_DATA = {
    "events": _EXAMPLES["events"]["data"],
    "labels": {"label": True},
    "feedback": {"correct": False},
}


def _document(endpoint: str) -> dict[str, Any]:
    body = {
        "required": True,
        "description": _READ,
        "content": {
            JSON: {
                "schema": schema_of(_ENTRIES[endpoint], CloudEventEntry, also_lists=True),
                "examples": {
                    "plain": {"value": _EXAMPLES[endpoint]},
                    "cloudevent": {"value": _CLOUDEVENT | {"data": _DATA[endpoint]}},
                },
            },
            NDJSON[0]: {"schema": {"type": "string"}},
        },
    }
    return {"responses": _RESPONSES, "openapi_extra": {"requestBody": body}}


DOCUMENTATION: dict[str, dict[str, Any]] = {endpoint: _document(endpoint) for endpoint in _EXAMPLES}
"""Keyword arguments of each route."""
