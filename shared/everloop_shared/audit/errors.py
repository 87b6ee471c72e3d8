"""Why a request is not handled: its record cannot be written."""

from __future__ import annotations

from everloop_shared.errors import Unavailable


class NotRecorded(Unavailable):
    """A request must be recorded before it is handled, and the broker does not take the record: nothing is done."""

    title = "Not recorded"
