"""Errors in code that works on personal values say where they happened, and no longer what they quote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb

from everloop_shared.errors import ErrorKind, InputRejected, ServiceError

FROM_VALUES = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What calculating with values can raise, with a text that may quote them."""


class PersonalRecordFailed(InputRejected):
    """A record or a request with personal values made the code raise."""

    kind = ErrorKind.INTERNAL
    title = "Failed at personal values"


@contextmanager
def hiding_values() -> Iterator[None]:
    """In place of such an error raise PersonalRecordFailed, which quotes nothing.

    Errors of the project pass: their texts quote no values of fields.
    """
    try:
        yield
    except FROM_VALUES as e:
        if isinstance(e, ServiceError):
            raise
        raise PersonalRecordFailed(describe(e)) from None


def describe(error: BaseException) -> str:
    """The type of an error and the line of code that raised it, for an error whose text may quote personal values."""
    frames = extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}; its text is left out, as it may quote personal values"
