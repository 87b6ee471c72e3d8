"""Reads a request body as JSON or as a command, strictly."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from everloop_shared import strict_json
from everloop_shared.errors import ErrorKind, FieldError, InputRejected
from everloop_shared.http.bodies import read_body
from everloop_shared.http.problems import UnsupportedMediaType

CommandBody = TypeVar("CommandBody", bound=BaseModel)


class BodyNotJson(InputRejected):
    """The body is not JSON, repeats a key, or contains NaN or infinity, which JSON does not know."""

    kind = ErrorKind.MALFORMED
    title = "Not JSON"


async def json_body(request: Request, limit: int) -> Any:
    """The body as JSON; raises UnsupportedMediaType, ContentTooLarge or BodyNotJson."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not strict_json.is_json(kind):
        raise UnsupportedMediaType(f"{kind[:80]} is not supported; send application/json")
    return parse_json(await read_body(request, limit))


async def command_body(kind: type[CommandBody], request: Request, limit: int, *, required: bool = True) -> CommandBody:
    """The body as an object of `kind`; where it is not `required`, an empty body gives the defaults of `kind`.

    Raises InputRejected with the fields that are wrong, or ContentTooLarge or BodyNotJson.
    """
    body = await read_body(request, limit)
    if not body and not required:
        return kind()
    try:
        return kind.model_validate(parse_json(body))
    except ValidationError as e:
        wrong = [FieldError(".".join(map(str, p["loc"])) or "body", p["msg"]) for p in e.errors(include_url=False)]
        raise InputRejected("; ".join(f"{w.field}: {w.error}" for w in wrong), wrong) from e


def parse_json(body: bytes) -> Any:
    """The value of a JSON text; raises BodyNotJson."""
    try:
        return strict_json.read(body)
    except strict_json.NotJson as e:
        raise BodyNotJson(f"the body is {str(e)[:300]}") from e
