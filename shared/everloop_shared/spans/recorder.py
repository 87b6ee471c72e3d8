"""Decides which traces are recorded, and records spans of one service; without any library of OpenTelemetry."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from everloop_shared.access.limits import Bucket
from everloop_shared.random_ids import random_digits
from everloop_shared.tracing import is_sampled, valid_traceparent

Kind = Literal["server", "consumer", "producer", "internal"]
Attributes = dict[str, Any]
"""Values are text, numbers and truth values: never ids of entities, and no value of an observation."""
LINKS = 128
"""Links of one span, at most."""


class Span:
    """Something that a service does, from `started_ns` to `ended_ns` since the epoch.

    `trace_id` and `span_id` are hexadecimal digits, `parent_id` is None in the first span of a trace. `links` are the
    trace contexts of what else led to it. `is_forced`: it is recorded because the sender's flag says so.
    """

    __slots__ = (
        "attributes",
        "ended_ns",
        "error",
        "is_forced",
        "kind",
        "links",
        "name",
        "parent_id",
        "span_id",
        "started_ns",
        "trace_id",
    )

    def __init__(
        self,
        name: str,
        kind: Kind,
        trace_id: str,
        parent_id: str | None,
        attributes: Attributes | None = None,
        links: tuple[str, ...] = (),
        *,
        is_forced: bool = False,
    ) -> None:
        self.name, self.kind, self.links, self.is_forced = name, kind, links, is_forced
        self.trace_id, self.parent_id, self.span_id = trace_id, parent_id, random_digits(8)
        self.attributes: Attributes = {} if attributes is None else attributes
        self.started_ns, self.ended_ns = time.time_ns(), 0
        self.error: str | None = None

    @property
    def traceparent(self) -> str:
        """The trace context of what follows from it."""
        return f"00-{self.trace_id}-{self.span_id}-01"


class SpanRecorder:
    """Records spans of one service. It never waits and never raises: `emit` takes what has ended, or drops it.

    The flag of a trace that came from elsewhere is honoured (parent-based sampling), but whoever may send a request may
    set it: so no more than `forced_per_s` traces a second are recorded for that reason, and beyond it a trace's own id
    decides, as for those that begin here (`sampling`, from 0 to 1: the same ids in every service).
    """

    def __init__(
        self,
        sampling: float,
        forced_per_s: float,
        emit: Callable[[Span], None],
        stop: Callable[[float], None] = lambda within_s: None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sampling, self._emit, self.stop, self._timer = sampling, emit, stop, timer
        self._below = int(sampling * (1 << 64))
        self._forced = Bucket(forced_per_s, 1.0, timer()) if forced_per_s else None

    def begin_request(self, sent: str | bytes | None) -> tuple[str, Span | None]:
        """The trace context of a request with this header, and its span, to be named, where that is recorded."""
        header = sent.decode("latin-1") if isinstance(sent, bytes) else sent
        parent = valid_traceparent(header)
        if parent is None:
            digits = random_digits(24)
            if not self._is_chosen(digits[:32]):
                return f"00-{digits[:32]}-{digits[32:]}-00", None
            span = Span("", "server", digits[:32], None)
            return span.traceparent, span
        admitted = self.admit(parent)
        if not is_sampled(admitted):
            return admitted, None
        span = Span("", "server", parent[3:35], parent[36:52], is_forced=not self._is_chosen(parent[3:35]))
        return span.traceparent, span

    def admit(self, traceparent: str) -> str:
        """A valid trace context that a sender has set, with its flag, unless too many have asked to be recorded."""
        if not is_sampled(traceparent) or self._is_chosen(traceparent[3:35]) or self._may_force():
            return traceparent
        return f"00-{traceparent[3:52]}-00"

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: str | None,
        attributes: Attributes | None = None,
        links: tuple[str, ...] = (),
    ) -> Span:
        """A span within a valid trace context; None begins a trace."""
        trace_id, parent_id = (parent[3:35], parent[36:52]) if parent is not None else (random_digits(16), None)
        return Span(name, kind, trace_id, parent_id, attributes, links[:LINKS])

    def begin_trace(self, name: str, kind: Kind, trace_id: str | None, attributes: Attributes) -> Span:
        """The first span of a trace that nothing of was recorded before, whose id logs may know already."""
        return Span(name, kind, trace_id or random_digits(16), None, attributes)

    def end(self, span: Span, error: BaseException | str | None = None) -> None:
        """The span has ended, with this error if any: its type is recorded, not its text, which may quote values."""
        span.ended_ns = time.time_ns()
        if error is not None:
            span.error = error if isinstance(error, str) else type(error).__name__
        self._emit(span)

    def until_end(self, span: Span) -> _UntilEnd:
        """Run a block with which the span ends, with the block's error if any."""
        return _UntilEnd(self, span)

    def _is_chosen(self, trace_id: str) -> bool:
        """By the lower half of the id, as OpenTelemetry's TraceIdRatioBased."""
        return int(trace_id[16:], 16) < self._below

    def _may_force(self) -> bool:
        if self._forced is None or self._forced.wait_s(self._timer()) > 0:
            return False
        self._forced.take(1.0)
        return True


class _UntilEnd:
    __slots__ = ("_recorder", "_span")

    def __init__(self, recorder: SpanRecorder, span: Span) -> None:
        self._recorder, self._span = recorder, span

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._recorder.end(self._span, error)
