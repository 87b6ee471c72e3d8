"""Records the span of a record's handling, and has what follows from it continue its trace."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from everloop_schemas.envelope import Event
from everloop_shared.messaging.routes import Handler, Position, Record
from everloop_shared.spans.recorder import Attributes, Span, SpanRecorder
from everloop_shared.spans.recorders import recorder_of
from everloop_shared.tracing import caused_by, describing, is_sampled, valid_traceparent

READ_AGAIN_AFTER_S = 60.0
"""A record of a broadcast that is older was read at an earlier start: it is no part of its trace once more."""


@dataclass(frozen=True, slots=True)
class _Cause:
    """An event that must stay as it was signed, as the cause of others within the span of its handling."""

    traceparent: str
    loop: str
    id: str


Handling = Callable[[Handler, Event, Record], Awaitable[list[Event]]]
"""Calls a handler with the event in a record, and returns its events, each with its trace context."""


async def handle_record(handler: Handler, event: Event, record: Record) -> list[Event]:
    """Where nothing is recorded: an event has its cause's trace context, unless it has its own."""
    with caused_by(event):
        return [_traced(e, event) for e in await handler(event, record.at)]


def handling_of(service: str, is_broadcast: bool) -> Handling:
    """How a service's records are handled, as it was started."""
    recorder = recorder_of(service)
    return handle_record if recorder is None else RecordSpans(recorder, service, is_broadcast).handle


def begin_traces(service: str, events: Sequence[Event]) -> list[Event]:
    """Events that follow from a batch of records, and not from one that is handled: rare ones begin their trace."""
    recorder = recorder_of(service)
    if recorder is None:
        return list(events)
    return [event if is_sampled(event.traceparent) else _begin_trace(recorder, event) for event in events]


class RecordSpans:
    """Calls the handlers of one service's records; where a record's trace is recorded, within a span of its own.

    One span for each such record, by OpenTelemetry's conventions for messaging ("process"), so that the path of a
    sampled request is whole; the others cost a look at a flag. The handler gets the event with the trace context of
    that span, and passes that on.
    """

    def __init__(
        self, recorder: SpanRecorder, service: str, is_broadcast: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._recorder, self._clock = recorder, clock
        self._most_s = READ_AGAIN_AFTER_S if is_broadcast else None
        operation = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
        self._fixed: Attributes = {"messaging.system": "kafka", "messaging.consumer.group.name": service} | operation

    async def handle(self, handler: Handler, event: Event, record: Record) -> list[Event]:
        """The events that the handler returns, each within a trace. Raises what the handler raises."""
        given = event.traceparent
        span = self._begin(event, record.at) if is_sampled(given) else None
        if span is None:
            with caused_by(event):
                made = await handler(event, record.at)
            return [self._adopt(e, given, None) if e.traceparent or e.begins_trace else _traced(e, event) for e in made]
        trace = span.traceparent
        within = _with_trace(event, trace, record)
        cause = within if within is not event else _Cause(trace, event.loop, event.id)
        with self._recorder.until_end(span), caused_by(cause), describing(span.attributes):
            return [self._adopt(e, trace, span) for e in await handler(within, record.at)]

    def _begin(self, event: Event, at: Position) -> Span | None:
        traceparent = valid_traceparent(event.traceparent)
        if traceparent is None:  # applications write some topics themselves
            return None
        if self._most_s is not None and self._clock() - at.timestamp / 1000 > self._most_s:
            return None
        attributes = {
            **self._fixed,
            "messaging.destination.name": at.topic,
            "messaging.destination.partition.id": str(at.partition),
            "messaging.kafka.offset": at.offset,
            "cloudevents.event_type": event.type,
            "everloop.loop": event.loop,
            **event.span_attributes(),
        }
        return self._recorder.begin(f"process {at.topic}", "consumer", traceparent, attributes)

    def _adopt(self, event: Event, cause: str | None, span: Span | None) -> Event:
        """An event with its trace context: that of its cause, unless it continues another trace, or begins one."""
        given = event.traceparent
        if given is None:
            if cause is None or _is_signed(event):
                return event
            event, given = event.copy_with(traceparent=cause), cause
        if given == cause and (span is not None or not event.begins_trace):
            return event
        if is_sampled(given):
            return event if _is_signed(event) else self._continue(event, given, span)
        return _begin_trace(self._recorder, event)

    def _continue(self, event: Event, given: str, span: Span | None) -> Event:
        """As an outcome, which continues the trace of its prediction while its label is handled."""
        if valid_traceparent(given) is None:
            return event
        links = (span.traceparent,) if span else ()
        created = self._recorder.begin(f"create {event.topic.name}", "producer", given, _created(event), links)
        self._recorder.end(created)
        return event.copy_with(traceparent=created.traceparent)


def _begin_trace(recorder: SpanRecorder, event: Event) -> Event:
    """The start of something rare, which is always recorded: under the same id, which logs know."""
    if not event.begins_trace or not recorder.sampling or _is_signed(event):
        return event
    given = valid_traceparent(event.traceparent)
    trace_id = given[3:35] if given else None
    created = recorder.begin_trace(f"create {event.topic.name}", "producer", trace_id, _created(event))
    recorder.end(created)
    return event.copy_with(traceparent=created.traceparent)


def _with_trace(event: Event, trace: str, record: Record) -> Event:
    """The event within the span; its bytes stay those of the record. One with a signature stays as it is."""
    if _is_signed(event):
        return event
    within = event.copy_with(traceparent=trace)
    if record.value is not None:
        within.remember_wire(record.value)
    return within


def _traced(event: Event, cause: Event) -> Event:
    if event.traceparent or not cause.traceparent or _is_signed(event):
        return event
    return event.copy_with(traceparent=cause.traceparent)


def _is_signed(event: Event) -> bool:
    return getattr(event, "signature", None) is not None


def _created(event: Event) -> Attributes:
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": event.topic.name,
        "messaging.operation.name": "create",
        "messaging.operation.type": "create",
        "everloop.loop": event.loop,
        **event.span_attributes(),
    }
