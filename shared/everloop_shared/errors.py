"""One error class carries both fates of a failure: what the door answers and what the engine does."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import ClassVar

ERRORS_LIMIT = 50
FIELD_LENGTH, ERROR_LENGTH, DETAIL_LENGTH = 100, 250, 2_000
"""How many errors one answer names at most, and how many characters each has: an answer stays below 64 KB."""
NAMES_LIMIT = 10


class Disposition(StrEnum):
    """What the engine does with the record whose handler raised.

    DEAD_LETTER parks it with its reason. RETRY pauses its partition, backs off with jitter and tries again.
    CRASH stops the process; the supervisor restarts it from the last offset.
    """

    DEAD_LETTER = "dead_letter"
    RETRY = "retry"
    CRASH = "crash"


@dataclass(frozen=True)
class FieldError:
    """One thing that is wrong: where (a dotted path), and what to do about it."""

    field: str
    error: str

    def short(self) -> FieldError:
        """The same, cut to what a person reads: an error that echoes its input is as long as that."""
        return FieldError(cut(self.field, FIELD_LENGTH), cut(self.error, ERROR_LENGTH))


def cut(text: str, length: int) -> str:
    """The text in at most `length` characters, each of which can be written as UTF-8."""
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text.encode(errors="replace").decode()


def listed(names: Collection[str]) -> str:
    """The first names, and how many there are beside."""
    first = ", ".join(islice(names, NAMES_LIMIT))
    return first if len(names) <= NAMES_LIMIT else f"{first} and {len(names) - NAMES_LIMIT:,} more"


class EverloopError(Exception):
    """A failure that knows its fate; subclasses fix `http_status`, `disposition` and `title`.

    `give_up_after` seconds of retrying turn a RETRY into a dead letter; None retries for ever.
    `retry_after` seconds are told to HTTP clients.
    """

    http_status: ClassVar[int] = 500
    disposition: ClassVar[Disposition] = Disposition.CRASH
    title: ClassVar[str] = "Internal error"
    give_up_after: float | None = None
    retry_after: ClassVar[float | None] = None

    def __init__(self, detail: str, errors: list[FieldError] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []


class Rejected(EverloopError):
    """The input is wrong and stays wrong: told to the caller, or parked in the dead letter."""

    http_status = 422
    disposition = Disposition.DEAD_LETTER
    title = "Unprocessable input"


class NotFound(EverloopError):
    """What is asked for is not there."""

    http_status = 404
    disposition = Disposition.DEAD_LETTER
    title = "Not found"


class NotYet(EverloopError):
    """What is needed is not there yet and may come, such as a loop this process has not heard of."""

    http_status = 404
    disposition = Disposition.RETRY
    title = "Not known yet"
    give_up_after = 15.0


class Unavailable(EverloopError):
    """Something this service depends on is away; trying again later will help."""

    http_status = 503
    disposition = Disposition.RETRY
    title = "Temporarily unavailable"
    retry_after = 1.0


class Overloaded(EverloopError):
    """A bounded buffer is full: the caller slows down, nothing is buffered without bound."""

    http_status = 429
    disposition = Disposition.RETRY
    title = "Too many requests"
    retry_after = 1.0


class Misconfigured(EverloopError):
    """A setting is missing or wrong; the message names it and the fix."""

    title = "Misconfigured"
