"""Reads the body of a request for predictions: one observation, a list of them, or JSON lines; CloudEvents too."""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.requests import Request

from everloop_features.cloudevents import observation_body
from everloop_serving.domain.new_predictions import MAX_ROWS
from everloop_serving.errors import rejection
from everloop_serving.settings import ServingSettings
from everloop_shared import strict_json
from everloop_shared.cloudevents import HTTP_PREFIX, CloudEvent, is_structured, read_binary, read_structured
from everloop_shared.errors import ERRORS_LIMIT, FieldError
from everloop_shared.http.bodies import read_body
from everloop_shared.http.cloudevents import binary_attributes, content_type
from everloop_shared.http.json_body import BodyNotJson, json_body, parse_json
from everloop_shared.spans.recorders import admitted
from everloop_shared.tracing import valid_traceparent


class RequestedRows(NamedTuple):
    """The observation, or the list of them, as JSON values not checked yet; the trace of a single CloudEvent."""

    value: Any
    traceparent: str | None = None


async def read_bodies(request: Request, settings: ServingSettings) -> RequestedRows:
    """What a request asks predictions for.

    Raises BadRequest, UnsupportedMediaType, ContentTooLarge, BodyNotJson or ObservationRejected.
    """
    if attributes := binary_attributes(request):
        data = parse_json(await read_body(request, settings.max_event_bytes))
        return _row_of(read_binary(attributes, data, HTTP_PREFIX))
    if content_type(request) in strict_json.NDJSON:
        return _rows_of(_parse_lines(await read_body(request, settings.max_body_bytes)))
    is_list = (await request.body()).lstrip()[:1] == b"["
    value = await json_body(request, settings.max_body_bytes if is_list else settings.max_event_bytes)
    if isinstance(value, list):
        return _rows_of(value)
    return _row_of(read_structured(value)) if is_structured(value) else RequestedRows(value)


def _row_of(event: CloudEvent | list[FieldError]) -> RequestedRows:
    if isinstance(event, list):
        raise rejection(event)
    body = observation_body(event)
    if isinstance(body, list):
        raise rejection(body)
    return RequestedRows(body, admitted("serving", valid_traceparent(event.traceparent)))


def _rows_of(values: list[Any]) -> RequestedRows:
    """The values, with the observations of the CloudEvents among them in their place."""
    wrong: list[FieldError] = []
    for n, value in enumerate(values):
        if is_structured(value):
            event = read_structured(value)
            body = event if isinstance(event, list) else observation_body(event)
            if isinstance(body, list):
                wrong += [FieldError(f"[{n}].{e.field}", e.error) for e in body]
            values[n] = body
    if wrong:
        raise rejection(wrong[:ERRORS_LIMIT])
    return RequestedRows(values)


def _parse_lines(body: bytes) -> list[Any]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > MAX_ROWS:
        raise rejection([FieldError("body", f"must have 1 to {MAX_ROWS:,} observations, has {len(lines):,}")])
    return [_parse_line(n, line) for n, line in enumerate(lines)]


def _parse_line(row: int, line: bytes) -> Any:
    try:
        return strict_json.read(line)
    except strict_json.NotJson as e:
        raise BodyNotJson(f"the observation [{row}] is {str(e)[:300]}", [FieldError(f"[{row}]", str(e)[:300])]) from e
