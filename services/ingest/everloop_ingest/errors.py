"""Errors for a request as a whole."""

from __future__ import annotations

from everloop_shared.errors import ErrorKind, InputRejected, NotFound


class MalformedBody(InputRejected):
    """The body is not of the format that its content type names."""

    kind = ErrorKind.MALFORMED
    title = "Malformed body"


class EmptyRequest(InputRejected):
    """The request contains no event, label or feedback."""

    title = "Empty request"


class RequestTooLarge(InputRejected):
    """The request, or one event in it, exceeds a limit."""

    kind = ErrorKind.TOO_LARGE
    title = "Content too large"


class SourceNotFound(NotFound):
    """The loop has no source of this name."""

    title = "Source not found"
