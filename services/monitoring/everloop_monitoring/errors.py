"""What can go wrong in monitoring's commands."""

from __future__ import annotations

from everloop_shared.errors import ErrorKind, InputRejected, NotFound


class SilenceNotFound(NotFound):
    """No such silence, or it has ended."""

    title = "Silence not found"


class TooManySilences(InputRejected):
    """A loop has as many silences as the limit allows."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "Too many silences"
