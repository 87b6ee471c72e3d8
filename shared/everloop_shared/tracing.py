"""W3C trace context and log fields of the work in hand, carried along the asyncio task that does it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TRACEPARENT = re.compile(r"^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$")
_traceparent: ContextVar[str | None] = ContextVar("everloop_traceparent", default=None)
_fields: ContextVar[dict[str, str]] = ContextVar("everloop_log_fields", default={})  # noqa: B039 - never mutated


def current_traceparent() -> str | None:
    """The trace context of the work in hand, for the events it causes; None outside of any."""
    return _traceparent.get()


def log_fields() -> dict[str, str]:
    """What every log line of the work in hand says: `trace`, `loop` and `id` where they are known."""
    traceparent = _traceparent.get()
    return {**_fields.get(), **({"trace": traceparent.split("-")[1]} if traceparent else {})}


def new_traceparent() -> str:
    """A fresh W3C trace context, version 00, sampled."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def accepted(header: str | None) -> str | None:
    """The header where it is a valid traceparent, else None: a wrong one is ignored, as the standard says."""
    return header if header is not None and _TRACEPARENT.match(header) else None


@contextmanager
def traced(traceparent: str | None, **fields: str | None) -> Iterator[None]:
    """Do the work inside under this trace context, and log it with these fields."""
    known = {k: v for k, v in fields.items() if v}
    trace_token, field_token = _traceparent.set(traceparent), _fields.set(_fields.get() | known)
    try:
        yield
    finally:
        _traceparent.reset(trace_token)
        _fields.reset(field_token)
