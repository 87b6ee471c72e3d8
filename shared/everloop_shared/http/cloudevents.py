"""CloudEvents in the binary mode of HTTP: the attributes are headers, and the body is the data."""

from __future__ import annotations

from starlette.requests import Request

from everloop_shared.cloudevents import BATCH, REQUIRED, STRUCTURED, MalformedHeader, http_attributes, is_json_type
from everloop_shared.errors import FieldError
from everloop_shared.http.problems import BadRequest, UnsupportedMediaType

IDENTIFYING = {"specversion", *REQUIRED}
"""With any of these attributes as a header, a request is a CloudEvent in binary mode."""


def content_type(request: Request) -> str:
    """The content type without its parameters, in lower case; empty where there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def binary_attributes(request: Request) -> dict[str, str]:
    """The attributes of a CloudEvent in binary mode, whose body is JSON then; empty where a request is none.

    Raises BadRequest and UnsupportedMediaType.
    """
    kind = content_type(request)
    if kind in (STRUCTURED, BATCH):  # a structured event may repeat its attributes as headers
        return {}
    try:
        attributes = http_attributes(request.headers.raw)
    except MalformedHeader as e:
        raise BadRequest(str(e), [FieldError(e.header, e.fix)]) from e
    if attributes.keys().isdisjoint(IDENTIFYING):
        return {}
    if not is_json_type(kind):
        raise UnsupportedMediaType(f"{kind[:80]} is not supported as the data of a CloudEvent; send application/json")
    return attributes
