"""What can keep a resource from being applied."""

from __future__ import annotations

from collections.abc import Sequence


class Refused(Exception):
    """The registry does not take the spec: `errors` are (field, error) pairs, each with what to correct."""

    def __init__(self, errors: Sequence[tuple[str, str]], status: int = 422) -> None:
        super().__init__("; ".join(f"{field}: {error}" for field, error in errors))
        self.errors, self.status = tuple(errors), status


class Unavailable(Exception):
    """Everloop does not answer, or not this operator; it is asked again. `reason` is one word, for a condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class OperatorMisconfigured(Exception):
    """The operator cannot start as it is set up; the message has the fix."""
