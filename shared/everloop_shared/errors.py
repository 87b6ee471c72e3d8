"""The base class of all failures: what an endpoint answers, and what the engine does with the record."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import islice
from typing import Any, ClassVar

ERRORS_LIMIT = 50
FIELD_LENGTH, ERROR_LENGTH, DETAIL_LENGTH = 100, 250, 2_000
"""Field errors in one answer, and characters of each text, at most: an answer stays below 64 KB."""
NAMES_LIMIT = 10
"""Names that an error message lists, at most."""


class ErrorKind(Enum):
    """What kind of failure: the one table from which every endpoint takes its status.

    `http_status` is for HTTP, `grpc_code` the name of the canonical gRPC status code.
    """

    MALFORMED = (400, "INVALID_ARGUMENT")
    UNAUTHENTICATED = (401, "UNAUTHENTICATED")
    PERMISSION_DENIED = (403, "PERMISSION_DENIED")
    NOT_FOUND = (404, "NOT_FOUND")
    TIMEOUT = (408, "DEADLINE_EXCEEDED")
    ALREADY_EXISTS = (409, "ALREADY_EXISTS")
    FAILED_PRECONDITION = (409, "FAILED_PRECONDITION")
    PRECONDITION_FAILED = (412, "FAILED_PRECONDITION")
    TOO_LARGE = (413, "INVALID_ARGUMENT")
    UNSUPPORTED_TYPE = (415, "INVALID_ARGUMENT")
    INVALID_ARGUMENT = (422, "INVALID_ARGUMENT")
    RESOURCE_EXHAUSTED = (429, "RESOURCE_EXHAUSTED")
    INTERNAL = (500, "INTERNAL")
    UNAVAILABLE = (503, "UNAVAILABLE")
    DEADLINE_EXCEEDED = (504, "DEADLINE_EXCEEDED")
    STORAGE_FULL = (507, "RESOURCE_EXHAUSTED")

    def __init__(self, http_status: int, grpc_code: str) -> None:
        self.http_status = http_status
        self.grpc_code = grpc_code


class Disposition(StrEnum):
    """What the engine does with the record whose handler raised.

    DEAD_LETTER stores it with the reason. RETRY pauses its partition, backs off with jitter and tries again.
    CRASH stops the process; the supervisor restarts it, and it consumes from the last committed offset.
    """

    DEAD_LETTER = "dead_letter"
    RETRY = "retry"
    CRASH = "crash"


@dataclass(frozen=True)
class FieldError:
    """One error in the input: the field (a dotted path), and what is wrong with it or how to fix it."""

    field: str
    error: str

    def shortened(self) -> FieldError:
        """The same error with bounded texts: an error that quotes its input can be as long as the input."""
        return FieldError(cut(self.field, FIELD_LENGTH), cut(self.error, ERROR_LENGTH))


def cut(text: str, length: int) -> str:
    """The text, truncated to `length` characters, without surrogates, which UTF-8 cannot encode."""
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text.encode(errors="replace").decode()


def listed(names: Collection[str]) -> str:
    """The first NAMES_LIMIT names, and the number of further ones."""
    first = ", ".join(islice(names, NAMES_LIMIT))
    return first if len(names) <= NAMES_LIMIT else f"{first} and {len(names) - NAMES_LIMIT:,} more"


class ServiceError(Exception):
    """A failure with its consequences; subclasses set `kind`, `disposition` and `title`.

    `kind` gives the status of the answer. `code` identifies the failure to programs and stays the same as long as the
    class does: the class name in snake case, unless a class sets its own. After `give_up_after` seconds of retrying,
    a RETRY becomes a dead letter; None retries without end. Clients are asked to wait `retry_after` seconds.
    """

    kind: ClassVar[ErrorKind] = ErrorKind.INTERNAL
    code: ClassVar[str] = "internal_error"
    disposition: ClassVar[Disposition] = Disposition.CRASH
    title: ClassVar[str] = "Internal error"
    give_up_after: float | None = None
    retry_after: float | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" not in cls.__dict__:
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, detail: str, errors: list[FieldError] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []

    @property
    def http_status(self) -> int:
        """The status of an HTTP answer."""
        return self.kind.http_status


class InputRejected(ServiceError):
    """The input is wrong and stays wrong: reported to the caller, or stored as a dead letter."""

    kind = ErrorKind.INVALID_ARGUMENT
    disposition = Disposition.DEAD_LETTER
    title = "Unprocessable input"


class NotFound(ServiceError):
    """The requested object does not exist."""

    kind = ErrorKind.NOT_FOUND
    disposition = Disposition.DEAD_LETTER
    title = "Not found"


class RetryLater(ServiceError):
    """Something required has not arrived yet and may arrive, such as the state of a new loop."""

    kind = ErrorKind.NOT_FOUND
    disposition = Disposition.RETRY
    title = "Not known yet"
    give_up_after = 15.0


class Unavailable(ServiceError):
    """A dependency of this service is unreachable; retrying later will help."""

    kind = ErrorKind.UNAVAILABLE
    disposition = Disposition.RETRY
    title = "Temporarily unavailable"
    retry_after = 1.0


class Overloaded(ServiceError):
    """A bounded buffer is full: the caller must slow down, because nothing is buffered without a limit."""

    kind = ErrorKind.RESOURCE_EXHAUSTED
    disposition = Disposition.RETRY
    title = "Too many requests"
    retry_after = 1.0


class Misconfigured(ServiceError):
    """A setting is missing or wrong; the message names it and the fix."""

    title = "Misconfigured"
