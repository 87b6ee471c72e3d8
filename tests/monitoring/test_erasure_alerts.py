"""An erasure whose receipt does not come within a minute is told to people."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.builders.loops import NOW

from everloop_monitoring.domain.alert_endings import note_event
from everloop_monitoring.domain.alerts import AlertBook
from everloop_monitoring.domain.erasure_alerts import fire_late_erasures, signal_of_erasure
from everloop_monitoring.domain.timeline import decision_entry
from everloop_schemas.erasure import (
    ErasureConfirmed,
    ErasureConfirmedData,
    ErasureDecided,
    ErasureDecidedData,
    Removed,
)

ABOUT: dict[str, Any] = {"time": NOW, "subject": "customer-7", "loop": "market", "revision": 1, "prevhash": ""}
DECIDED = ErasureDecided(id="d-3", sequence=3, data=ErasureDecidedData(reason="letter", models="keep"), **ABOUT)
CONFIRMED = ErasureConfirmed(
    id="d-4",
    sequence=4,
    data=ErasureConfirmedData(cause="person", removed=Removed(sealed=True), decision=3),
    **ABOUT,
)


def test_the_alert_fires_after_a_minute_and_ends_with_the_receipt() -> None:
    book = AlertBook({})
    book.raise_alert(signal_of_erasure(DECIDED), NOW)

    fire_late_erasures(book, NOW + timedelta(seconds=59))
    early = [telling.state for telling in book.tellings]
    fire_late_erasures(book, NOW + timedelta(seconds=60))
    fire_late_erasures(book, NOW + timedelta(seconds=61))
    note_event(book, CONFIRMED)

    assert early == ["pending"]
    assert [(t.alert.alert, t.state) for t in book.tellings][1:] == [("erasure.3", "firing"), ("erasure.3", "resolved")]
    assert book.open == {}


def test_a_receipt_in_time_tells_nobody_and_no_alert_names_the_person() -> None:
    book = AlertBook({})
    signal = signal_of_erasure(DECIDED)
    book.raise_alert(signal, NOW)

    note_event(book, CONFIRMED)
    fire_late_erasures(book, NOW + timedelta(hours=1))

    assert [telling.state for telling in book.tellings] == ["pending"]
    assert "customer-7" not in repr(signal)


def test_the_timeline_says_that_an_erasure_was_decided_and_done_without_the_person() -> None:
    entries = [decision_entry(event) for event in (DECIDED, CONFIRMED)]

    assert [entry and entry.what for entry in entries] == [
        "an erasure is decided, decision 3",
        "the erasure of decision 3 is done",
    ]
