"""Reads a request's body as JSON, strictly: every key once."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from everloop_shared import strict_json
from everloop_shared.errors import FieldError, Rejected
from everloop_shared.http.bodies import read_body
from everloop_shared.http.problems import UnsupportedType

B = TypeVar("B", bound=BaseModel)


class BodyNotJson(Rejected):
    """The body is not JSON, names a key twice, or has NaN or infinity in it, which JSON has not."""

    http_status = 400
    title = "Not JSON"


async def json_body(request: Request, limit: int) -> Any:
    """The body as JSON; raises UnsupportedType, TooLarge or BodyNotJson."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not strict_json.is_json(kind):
        raise UnsupportedType(f"{kind[:80]} is not read here; send application/json")
    return _parsed(await read_body(request, limit))


async def command_body(kind: type[B], request: Request, limit: int, *, needed: bool = True) -> B:
    """The body as a command; where it is not `needed`, an empty one says what `kind` says by default.

    Raises Rejected with the fields that are wrong, beside TooLarge and BodyNotJson.
    """
    body = await read_body(request, limit)
    if not body and not needed:
        return kind()
    try:
        return kind.model_validate(_parsed(body))
    except ValidationError as e:
        wrong = [FieldError(".".join(map(str, p["loc"])) or "body", p["msg"]) for p in e.errors(include_url=False)]
        raise Rejected("; ".join(f"{w.field}: {w.error}" for w in wrong), wrong) from e


def _parsed(body: bytes) -> Any:
    try:
        return strict_json.read(body)
    except strict_json.NotJson as e:
        raise BodyNotJson(f"the body is {str(e)[:300]}") from e
