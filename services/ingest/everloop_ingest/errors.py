"""What the door answers when it cannot take a request as a whole."""

from __future__ import annotations

from everloop_shared.errors import Rejected


class BrokenBody(Rejected):
    """The body is not what its content type says."""

    http_status = 400
    title = "Broken body"


class NothingSent(Rejected):
    """A request without a single event, label or feedback in it."""

    title = "Nothing sent"


class TooMuch(Rejected):
    """More in one request, or in one event, than the limits allow."""

    http_status = 413
    title = "Content too large"
