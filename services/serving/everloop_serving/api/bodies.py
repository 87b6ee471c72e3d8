"""Reads the body of a request for predictions: one observation, a list of them, or JSON lines."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from everloop_serving.domain.new_predictions import MAX_ROWS
from everloop_serving.errors import rejection
from everloop_serving.settings import ServingSettings
from everloop_shared import strict_json
from everloop_shared.errors import FieldError
from everloop_shared.http.bodies import read_body
from everloop_shared.http.json_body import BodyNotJson, json_body


def content_type(header: str) -> str:
    """The content type without its parameters, in lower case."""
    return header.partition(";")[0].strip().lower()


async def read_bodies(request: Request, settings: ServingSettings) -> Any:
    """The observation, or the list of them, as JSON values that are not checked yet.

    Raises UnsupportedMediaType, ContentTooLarge, BodyNotJson or ObservationRejected.
    """
    if content_type(request.headers.get("content-type", "")) in strict_json.NDJSON:
        return _parse_lines(await read_body(request, settings.max_body_bytes))
    is_list = (await request.body()).lstrip()[:1] == b"["
    return await json_body(request, settings.max_body_bytes if is_list else settings.max_event_bytes)


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
