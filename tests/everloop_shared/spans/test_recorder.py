"""Which traces are recorded: by the flag that came, by the share, and how often a sender may force it."""

from __future__ import annotations

from itertools import count

import pytest

from everloop_shared.spans.recorder import Span, SpanRecorder
from everloop_shared.tracing import is_sampled, not_sampled, valid_traceparent

FORCED = "00-ffffffffffffffffffffffffffffffff-b7ad6b7169203331-01"
"""Recorded by its flag alone: an id of all ones is in no share below 1."""
REFUSED = FORCED[:-2] + "00"


def recorder(sampling: float = 0.0, forced_per_s: float = 100.0) -> tuple[SpanRecorder, list[Span]]:
    """A recorder whose clock stands still, and what it has recorded."""
    ended: list[Span] = []
    return SpanRecorder(sampling, forced_per_s, ended.append, timer=lambda: 0.0), ended


def test_a_request_continues_the_trace_that_an_application_has_sampled() -> None:
    spans, ended = recorder()

    trace, span = spans.begin_request(FORCED.encode())
    assert span is not None
    spans.end(span)

    assert (trace, is_sampled(trace), valid_traceparent(trace)) == (span.traceparent, True, trace)
    assert (span.trace_id, span.parent_id) == (FORCED[3:35], FORCED[36:52])
    assert span.span_id != span.parent_id
    assert ended == [span]


def test_what_an_application_has_not_sampled_is_not_recorded_whatever_the_share() -> None:
    spans, _ = recorder(sampling=1.0)

    assert spans.begin_request(REFUSED) == (REFUSED, None)


@pytest.mark.parametrize("sent", [None, "", "nonsense", b"\xff", FORCED.replace("f" * 32, "0" * 32)])
def test_without_a_valid_context_a_trace_begins_that_is_recorded_by_the_share(sent: str | bytes | None) -> None:
    all_spans, none = recorder(sampling=1.0)[0], recorder(sampling=0.0)[0]

    trace, span = all_spans.begin_request(sent)
    other, nothing = none.begin_request(sent)

    assert span is not None
    assert (span.parent_id, nothing) == (None, None)
    assert (is_sampled(trace), is_sampled(other)) == (True, False)
    assert valid_traceparent(other)


def test_a_tenth_of_the_traces_is_a_tenth() -> None:
    spans, _ = recorder(sampling=0.1)

    chosen = sum(spans.begin_request(None)[1] is not None for _ in range(20_000))

    assert 1_700 < chosen < 2_300, "seven standard deviations"


def test_services_of_one_share_choose_the_same_traces() -> None:
    first, second = recorder(sampling=0.5)[0], recorder(sampling=0.5, forced_per_s=0)[0]
    traces = [first.begin_request(None)[0] for _ in range(200)]

    again = [is_sampled(second.admit(trace[:-2] + "01")) for trace in traces]

    assert again == [is_sampled(trace) for trace in traces]


def test_senders_force_no_more_traces_than_the_limit_and_the_rest_goes_on_unrecorded() -> None:
    spans, _ = recorder(forced_per_s=3)

    recorded = [spans.begin_request(FORCED)[1] for _ in range(10)]

    assert [span is not None for span in recorded] == [True] * 3 + [False] * 7
    assert spans.begin_request(FORCED)[0] == REFUSED, "the same trace, so that logs still name it"


def test_the_limit_of_forced_traces_recovers_with_time() -> None:
    times = count()
    spans = SpanRecorder(0.0, 1.0, lambda span: None, timer=lambda: float(next(times)))

    assert [is_sampled(spans.admit(FORCED)) for _ in range(5)] == [True] * 5


def test_nobody_forces_a_trace_where_the_limit_is_zero() -> None:
    spans, _ = recorder(forced_per_s=0)

    assert spans.begin_request(FORCED) == (REFUSED, None)


def test_an_error_is_recorded_by_its_type_and_not_by_its_text() -> None:
    spans, ended = recorder()

    spans.end(spans.begin("handle", "internal", None), ValueError("Anna Karenina"))

    assert ended[0].error == "ValueError"


def test_a_trace_goes_on_unrecorded_under_its_id() -> None:
    assert not_sampled(FORCED) == REFUSED
    assert (not_sampled(REFUSED), not_sampled(None)) == (REFUSED, None)
