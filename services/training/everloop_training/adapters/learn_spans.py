"""Records how long outcomes of recorded traces wait for their worker and are learned there."""

from __future__ import annotations

from collections import defaultdict, deque

from everloop_shared.spans.recorder import Span, SpanRecorder
from everloop_shared.tracing import current_traceparent, is_sampled


class LearnSpans:
    """One span "learn" for each outcome of a recorded trace, from its arrival until the worker has learned its batch.

    A worker answers the batches in the order in which they were sent. What it did not answer before its end is not
    recorded: it is learned again, from the log.
    """

    def __init__(self, recorder: SpanRecorder) -> None:
        self._recorder = recorder
        self._buffered: dict[int, list[tuple[int, Span]]] = defaultdict(list)
        self._sent: deque[tuple[int, list[Span]]] = deque()

    def put(self, partition: int, place: int, loop: str) -> None:
        """The outcome of the current task is at this place among those that wait."""
        if is_sampled(trace := current_traceparent()):
            span = self._recorder.begin("learn", "internal", trace, {"everloop.loop": loop})
            self._buffered[partition].append((place, span))

    def sent(self, partition: int, first: int, count: int) -> None:
        """The `count` outcomes from place `first` on were sent as one batch."""
        waiting = self._buffered.get(partition)
        spans = [span for place, span in waiting if first <= place < first + count] if waiting else []
        self._sent.append((count, spans))

    def flushed(self) -> None:
        """All were sent."""
        self._buffered.clear()

    def learned(self, count: int) -> None:
        """The worker has learned a batch of so many outcomes; those that catch it up were never put here."""
        if self._sent and self._sent[0][0] == count:
            for span in self._sent.popleft()[1]:
                span.attributes["everloop.outcomes"] = count
                self._recorder.end(span)

    def discard(self) -> None:
        """The worker has ended."""
        self._buffered.clear()
        self._sent.clear()
