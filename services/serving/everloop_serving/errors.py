"""What can go wrong in serving."""

from __future__ import annotations

from typing import Literal

from everloop_shared.errors import ErrorKind, FieldError, InputRejected, NotFound, Overloaded, Unavailable

NAME_LENGTH = 80
"""Characters of a name in a request that an error repeats."""


class PredictionNotFound(NotFound):
    """The prediction was not made here, or too long ago to be remembered."""

    title = "Prediction not found"


class StateUnread(Unavailable):
    """The window state of an entity could not be read from feature; `reason` is one of a few words, for a metric."""

    title = "Window state unread"

    def __init__(self, reason: Literal["away", "timeout", "busy", "elsewhere", "error"]) -> None:
        super().__init__(f"the window state could not be read: {reason}")
        self.reason = reason


class ModelLoading(Unavailable):
    """The loop's champion is still being loaded for the first time in this process."""

    title = "Model loading"


class ObservationRejected(InputRejected):
    """The body does not fit the loop's schema; `errors` name the fields."""

    title = "Observation does not fit the loop's schema"


def rejection(errors: list[FieldError]) -> ObservationRejected:
    """The refusal of a request with these errors."""
    return ObservationRejected("; ".join(f"{e.field}: {e.error}" for e in errors), errors)


class VersionNotFound(NotFound):
    """The request names a version that does not serve here, or not any more."""

    title = "Version not found"


class VersionFailed(Unavailable):
    """The version that the request names raised, or returned what is not finite; no other one takes its place."""

    title = "Version failed"

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(f"{version} failed: {reason}; ask without a version for the answer of another one")
        self.version = version


class VectorRejected(InputRejected):
    """Features that do not fit the loop: a model would fail at them, and be reported for it."""

    title = "Vector does not fit its loop"


class SpoolFull(Overloaded):
    """The broker has been away for so long that the spool has reached its limit."""

    title = "Spool full"
    retry_after = 5.0


class SpoolUnwritable(Unavailable):
    """The disk refuses the record: full, read-only or broken."""

    title = "Spool unwritable"
    retry_after = 5.0


class RecordTooLarge(InputRejected):
    """The record of a prediction is over the size limit of an event."""

    kind = ErrorKind.TOO_LARGE
    title = "Content too large"


class DeadlineExceeded(Unavailable):
    """The request could not be answered within the time that it gave; the detail says whether its record is stored."""

    kind = ErrorKind.DEADLINE_EXCEEDED
    title = "Deadline exceeded"


class Superseded(Exception):
    """A version was replaced before it could be loaded; nothing is wrong with it."""
