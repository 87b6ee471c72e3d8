"""What becomes of records that fail: growing back-off, crashes counted over restarts, a stop when too much is bad."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import pytest

from everloop_shared.errors import NotYet, Rejected
from everloop_shared.messaging.crash_ledger import CrashLedger
from everloop_shared.messaging.fate import FEWEST_BAD, LONGEST_BACKOFF_S, Fates, TooManyDeadLetters
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


def test_the_third_crash_on_one_record_parks_it() -> None:
    fates, bug = Fates("feature", CrashLedger()), ZeroDivisionError("a bug")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fates.park(AT, b"k", b"v", bug)

    letter = fates.park(AT, b"k", b"v", bug)

    assert "crash_loop" in letter.data.reason
    assert b64decode(letter.data.value) == b"v"


def test_the_back_off_doubles_with_jitter_up_to_its_longest() -> None:
    fates, partition = Fates("feature", CrashLedger()), (AT.topic, AT.partition)

    pauses = []
    for _ in range(12):
        fates.retried(AT)
        pauses.append(fates.backoff_s(partition))

    assert 0.025 <= pauses[0] <= 0.05
    assert all(pause <= LONGEST_BACKOFF_S for pause in pauses)
    assert pauses[-1] >= LONGEST_BACKOFF_S / 2


def test_what_waits_is_tried_again_until_its_time_is_up() -> None:
    class Impatient(NotYet):
        give_up_after = 0.0

    fates = Fates("feature", CrashLedger())

    assert fates.may_retry(AT, NotYet("soon"))
    assert not fates.may_retry(AT, Impatient("now or never"))
    assert not fates.may_retry(AT, Rejected("never"))


def test_too_many_dead_letters_stop_the_process() -> None:
    fates = Fates("feature", CrashLedger())

    for offset in range(FEWEST_BAD - 1):
        fates.park(Position(AT.topic, 0, offset), None, b"v", Rejected("bad"))

    with pytest.raises(TooManyDeadLetters, match="were refused"):
        fates.park(AT, None, b"v", Rejected("bad"))


def test_some_dead_letters_among_good_records_do_not() -> None:
    fates = Fates("feature", CrashLedger())

    for offset in range(FEWEST_BAD * 5):
        fates.handled(AT)
        fates.handled(AT)
        letter = fates.park(Position(AT.topic, 0, offset), None, b"v", Rejected("bad"))

    assert letter.data.reason == "bad"
