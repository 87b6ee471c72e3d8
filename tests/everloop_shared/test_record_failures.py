"""What becomes of records that fail: growing back-off, crashes counted over restarts, a wait that is bounded."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from ssl import SSLCertVerificationError

import pytest

from everloop_shared.errors import Disposition, InputRejected, RetryLater
from everloop_shared.messaging.processing.crash_ledger import CrashLedger
from everloop_shared.messaging.processing.dead_letter import make_dead_letter
from everloop_shared.messaging.processing.failures import BACKOFF, FailurePolicy, disposition_of
from everloop_shared.messaging.processing.wait_budget import WaitBudget
from everloop_shared.messaging.routes import Position

AT = Position("ingest.event_received.v1", 1, 7, 1_700_000_000_000)


def test_crashes_of_several_records_are_counted_over_restarts(tmp_path: Path) -> None:
    file, other = tmp_path / "ledger.json", Position(AT.topic, 2, 9)

    counts = [(CrashLedger(file).add(AT), CrashLedger(file).add(other)) for _ in range(3)]

    assert counts == [(1, 1), (2, 2), (3, 3)]


def test_a_broken_ledger_starts_anew(tmp_path: Path) -> None:
    file = tmp_path / "ledger.json"
    file.write_text("{broken")

    assert CrashLedger(file).add(AT) == 1


def test_the_third_crash_on_one_record_makes_it_a_dead_letter() -> None:
    failures, bug = FailurePolicy("feature", CrashLedger()), OSError("a disk")
    for _ in range(2):
        with pytest.raises(OSError, match="a disk"):
            failures.make_dead_letter(AT, b"k", b"v", bug)

    dead_letter = failures.make_dead_letter(AT, b"k", b"v", bug)

    assert "crash_loop" in dead_letter.data.reason
    assert b64decode(dead_letter.data.value) == b"v"


def test_the_backoff_doubles_with_jitter_up_to_its_longest() -> None:
    failures, partition = FailurePolicy("feature", CrashLedger()), (AT.topic, AT.partition)

    pauses = []
    for _ in range(12):
        failures.count_retry(AT)
        pauses.append(failures.backoff_s(partition))

    assert 0.025 <= pauses[0] <= 0.05
    assert all(pause <= BACKOFF.longest_s for pause in pauses)
    assert pauses[-1] >= BACKOFF.longest_s / 2


def test_a_record_is_retried_until_its_time_is_over() -> None:
    class Impatient(RetryLater):
        give_up_after = 0.0

    failures = FailurePolicy("feature", CrashLedger())

    assert failures.may_retry(AT, RetryLater("soon"))
    assert not failures.may_retry(AT, Impatient("now or never"))
    assert not failures.may_retry(AT, InputRejected("never"))


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError(),
        OverflowError("math range error"),
        FloatingPointError(),
        ValueError("math domain error"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        KeyError("state"),
        TypeError("'<' not supported"),
        AttributeError("'NoneType' object has no attribute 'x'"),
        AssertionError("not finite: -inf"),
        RecursionError("maximum recursion depth exceeded"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_an_error_that_a_record_can_cause_makes_a_dead_letter_at_once(error: Exception) -> None:
    dead_letter = FailurePolicy("feature", CrashLedger()).make_dead_letter(AT, b"k", b"v", error)

    assert (dead_letter.data.error, dead_letter.data.reason) == (type(error).__name__, str(error))


@pytest.mark.parametrize("error", [OSError("disk"), MemoryError(), RuntimeError("a bug"), SSLCertVerificationError()])
def test_an_error_about_the_process_crashes_it(error: Exception) -> None:
    assert disposition_of(error) is Disposition.CRASH
    with pytest.raises(type(error)):
        FailurePolicy("feature", CrashLedger()).make_dead_letter(AT, b"k", b"v", error)


def test_an_error_of_the_engine_around_a_handler_makes_no_dead_letter_at_once() -> None:
    with pytest.raises(TypeError):
        FailurePolicy("feature", CrashLedger()).make_dead_letter(
            AT, b"k", b"v", TypeError("a bug of the engine"), in_handler=False
        )


def test_each_of_many_rejected_records_is_a_dead_letter() -> None:
    failures = FailurePolicy("feature", CrashLedger())

    dead_letters = [
        failures.make_dead_letter(Position(AT.topic, 0, n), None, b"v", InputRejected("bad")) for n in range(5_000)
    ]

    assert {dead_letter.data.reason for dead_letter in dead_letters} == {"bad"}
    assert len({dead_letter.id for dead_letter in dead_letters}) == 5_000


@pytest.mark.parametrize(
    ("value", "timestamp", "loop"),
    [
        (b"[" * 100_000, 0, ""),
        (b'{"loop": "\\ud800", "id": "\\ud800"}', 2**62, "?"),
        (b'{"loop": "' + b"l" * 7_000_000 + b'"}', -(2**62), "l" * 63),
        (b"\xff\xfe", 0, ""),
        (b'{"loop": 1e999}', 0, ""),
    ],
    ids=["deep", "surrogates", "huge", "bytes", "infinite"],
)
def test_every_record_has_a_dead_letter_that_can_be_published(value: bytes, timestamp: int, loop: str) -> None:
    at = Position(AT.topic, 1, 7, timestamp)

    dead_letter = make_dead_letter("feature", at, b"\xff", value, ValueError("half a pair: \ud800"))

    assert (dead_letter.loop, dead_letter.data.reason) == (loop, "half a pair: ?")
    assert b64decode(dead_letter.data.value or "") == value
    assert len(dead_letter.encode()) < 4 / 3 * len(value) + 5_000


def test_each_partition_waits_for_all_unknown_loops_together_and_once_for_each() -> None:
    now = 0.0
    budget, first, other = WaitBudget(lambda: now), ("t", 0), ("t", 1)

    waits = [budget.may_wait(first, "a", 14.9, 15.0), budget.may_wait(first, "a", 15.0, 15.0)]
    again = [budget.may_wait(first, "a", 0.0, 15.0), budget.may_wait(other, "a", 0.0, 15.0)]
    names = [budget.may_wait(first, f"loop-{n}", 0.0, 15.0) for n in range(100)]
    elsewhere = budget.may_wait(other, "b", 10.0, 15.0)
    now = 10.0
    soon = [budget.may_wait(first, f"soon-{n}", 0.0, 15.0) for n in range(100)]
    now = 300.0
    later = [budget.may_wait(first, "new", 7.0, 15.0), budget.may_wait(first, "new", 8.0, 15.0)]

    assert waits == [True, False]
    assert again == [False, False]
    assert not any(names + soon)
    assert elsewhere
    assert later == [True, False]


def test_a_loop_that_became_known_is_waited_for_again() -> None:
    failures = FailurePolicy("feature", CrashLedger())

    class Impatient(RetryLater):
        give_up_after = 0.0

    given_up = failures.may_retry(AT, Impatient("no such loop"), "late")
    refused = failures.may_retry(Position(AT.topic, 3, 8), RetryLater("no such loop"), "late")
    failures.record_success(AT, "late")
    waits = failures.may_retry(Position(AT.topic, 3, 8), RetryLater("a revision to come"), "late")

    assert (given_up, refused, waits) == (False, False, True)
