"""What a call that failed is answered: the status code, a text, and details that programs read."""

from __future__ import annotations

from urllib.parse import quote

import grpc

from everloop_serving.api.open_inference_grpc.protocol import error_details_pb2 as details
from everloop_shared.errors import FieldError, ServiceError, cut

DOMAIN = "everloop"
MAX_TEXT_BYTES, MAX_FIELDS_BYTES = 1_600, 2_000
"""A client accepts 8 KB of trailers by default; the text is in them twice, and details grow by a third."""
_TYPE = "type.googleapis.com/google.rpc."
Trailers = tuple[tuple[str, str | bytes], ...]


def code_of(error: ServiceError) -> grpc.StatusCode:
    """The canonical status code of an error."""
    return grpc.StatusCode[error.kind.grpc_code]


def text_of(error: ServiceError) -> str:
    """The text of an error: its detail, as long as a trailer may be."""
    text = cut(error.detail, MAX_TEXT_BYTES)
    while len(quote(text)) > MAX_TEXT_BYTES:
        text = cut(text, len(text) * 3 // 4)
    return text


def trailers_of(error: ServiceError, text: str) -> Trailers:
    """The details (google.rpc.Status), and how long a client that retries should wait."""
    status = details.Status(code=code_of(error).value[0], message=text)
    _add(status, "ErrorInfo", details.ErrorInfo(reason=error.code.upper(), domain=DOMAIN))
    if error.errors:
        _add(status, "BadRequest", _violations(error.errors))
    trailers: Trailers = ()
    if error.retry_after is not None:
        seconds, rest = divmod(error.retry_after, 1)
        delay = details.RetryInfo.Duration(seconds=int(seconds), nanos=int(rest * 1e9))
        _add(status, "RetryInfo", details.RetryInfo(retry_delay=delay))
        trailers = (("grpc-retry-pushback-ms", str(int(error.retry_after * 1000))),)
    return (*trailers, ("grpc-status-details-bin", status.SerializeToString()))


def _add(
    status: details.Status, name: str, message: details.ErrorInfo | details.RetryInfo | details.BadRequest
) -> None:
    status.details.add(type_url=_TYPE + name, value=message.SerializeToString())


def _violations(errors: list[FieldError]) -> details.BadRequest:
    request, room = details.BadRequest(), MAX_FIELDS_BYTES
    for error in errors:
        short = error.shortened()
        room -= len(short.field.encode()) + len(short.error.encode()) + 8
        if room < 0:
            break
        request.field_violations.add(field=short.field, description=short.error)
    return request
