"""W3C trace context and log fields of the current asyncio task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import Any, Protocol

from everloop_shared.random_ids import random_digits

_TRACEPARENT = re.compile(r"^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
_SAMPLED = frozenset("13579bdf")
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
_span: ContextVar[dict[str, Any] | None] = ContextVar("everloop_span_attributes", default=None)
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


def sent_request_id(headers: Mapping[bytes, bytes]) -> str | None:
    """The id that the client gave its request; None where there is none that is valid."""
    sent = headers.get(b"x-request-id")
    return None if sent is None else valid_request_id(sent.decode("latin-1"))


def span_attributes() -> dict[str, Any] | None:
    """The attributes of the span of the current task, to add to; None where none is recorded.

    What is added must be no id of an entity and no value of an observation: it leaves the installation.
    """
    return _span.get()


def log_fields() -> dict[str, str]:
    """Fields of every log line of the current task: `trace`, `request`, `loop` and `id` where they are known."""
    cause, traceparent = _cause.get(), current_traceparent()
    fields = {**_fields.get(), **({"loop": cause.loop, "id": cause.id} if cause else {})}
    if traceparent:
        fields["trace"] = traceparent[3:35]
    return {name: value for name, value in fields.items() if value}


def new_traceparent() -> str:
    """A new W3C trace context, version 00, of which nothing is recorded."""
    digits = random_digits(24)
    return f"00-{digits[:32]}-{digits[32:]}-00"


def is_sampled(traceparent: str | None) -> bool:
    """Whether a trace context, valid or not, says that its trace is recorded."""
    return traceparent is not None and traceparent[54:55] in _SAMPLED


def not_sampled(traceparent: str | None) -> str | None:
    """The same trace, of which what follows is not recorded."""
    return f"00-{traceparent[3:52]}-00" if traceparent and is_sampled(traceparent) else traceparent


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


class describing:
    """Run a block whose span has these attributes, which it may add to."""

    __slots__ = ("_attributes", "_token")

    def __init__(self, attributes: dict[str, Any]) -> None:
        self._attributes = attributes

    def __enter__(self) -> None:
        self._token: Token[dict[str, Any] | None] = _span.set(self._attributes)

    def __exit__(self, *exc: object) -> None:
        _span.reset(self._token)
