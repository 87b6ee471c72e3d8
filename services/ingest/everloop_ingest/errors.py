"""What the door answers when it cannot take a request as a whole."""

from __future__ import annotations

from everloop_shared.errors import ErrorKind, InputRejected


class BrokenBody(InputRejected):
    """The body is not what its content type says."""

    kind = ErrorKind.MALFORMED
    title = "Broken body"


class NothingSent(InputRejected):
    """A request without a single event, label or feedback in it."""

    title = "Nothing sent"


class TooMuch(InputRejected):
    """More in one request, or in one event, than the limits allow."""

    kind = ErrorKind.TOO_LARGE
    title = "Content too large"
