"""W3C trace context and log fields of the current asyncio task."""

from __future__ import annotations

import re
from contextvars import ContextVar, Token
from typing import Protocol

from everloop_shared.random_ids import random_digits

_TRACEPARENT = re.compile(r"^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
_traceparent: ContextVar[str | None] = ContextVar("everloop_traceparent", default=None)

REQUEST = "request"
"""The log field for a request id that the client sent; without one, `trace` has the id that it was answered with."""


class Cause(Protocol):
    """What a task can be caused by: an event."""

    @property
    def traceparent(self) -> str | None: ...
    @property
    def loop(self) -> str: ...
    @property
    def id(self) -> str: ...


_cause: ContextVar[Cause | None] = ContextVar("everloop_cause", default=None)
_fields: ContextVar[dict[str, str]] = ContextVar("everloop_log_fields", default={})  # noqa: B039 - never mutated


def current_traceparent() -> str | None:
    """The trace context of the current task, for the events it causes; None outside of any."""
    cause = _cause.get()
    return cause.traceparent if cause else _traceparent.get()


def current_request_id() -> str | None:
    """What identifies the request of the current task: the id that its client sent, else the id of its trace."""
    traceparent = _traceparent.get()
    return _fields.get().get(REQUEST) or (traceparent[3:35] if traceparent else None)


def valid_request_id(header: str) -> str | None:
    """The header `X-Request-Id` if it is 1 to 128 characters that need no escaping anywhere, else None."""
    return header if _REQUEST_ID.fullmatch(header) else None


def log_fields() -> dict[str, str]:
    """Fields of every log line of the current task: `trace`, `request`, `loop` and `id` where they are known."""
    cause, traceparent = _cause.get(), current_traceparent()
    fields = {**_fields.get(), **({"loop": cause.loop, "id": cause.id} if cause else {})}
    if traceparent:
        fields["trace"] = traceparent[3:35]
    return {name: value for name, value in fields.items() if value}


def new_traceparent() -> str:
    """A new W3C trace context, version 00, sampled."""
    digits = random_digits(24)
    return f"00-{digits[:32]}-{digits[32:]}-01"


def valid_traceparent(header: str | None) -> str | None:
    """The header if it is a valid traceparent, else None: the standard says to ignore an invalid one."""
    return header if header is not None and _TRACEPARENT.match(header) else None


def continued_trace(header: bytes | None) -> str:
    """The trace context of a request with this header, a new one where it has none that is valid."""
    return (valid_traceparent(header.decode("latin-1")) if header else None) or new_traceparent()


class traced:
    """Run a block under this trace context, and with these fields in its log lines."""

    __slots__ = ("_field_token", "_fields", "_trace_token", "_traceparent")

    def __init__(self, traceparent: str | None, **fields: str | None) -> None:
        self._traceparent = traceparent
        self._fields = {k: v for k, v in fields.items() if v} if fields else None

    def __enter__(self) -> None:
        self._trace_token = _traceparent.set(self._traceparent)
        if self._fields:
            self._field_token = _fields.set(_fields.get() | self._fields)

    def __exit__(self, *exc: object) -> None:
        _traceparent.reset(self._trace_token)
        if self._fields:
            _fields.reset(self._field_token)


class caused_by:
    """Run a block under the trace context of an event, and with its loop and id in its log lines."""

    __slots__ = ("_cause", "_token")

    def __init__(self, cause: Cause) -> None:
        self._cause = cause

    def __enter__(self) -> None:
        self._token: Token[Cause | None] = _cause.set(self._cause)

    def __exit__(self, *exc: object) -> None:
        _cause.reset(self._token)
