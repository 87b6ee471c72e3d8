"""An alert is told when it begins, becomes graver, goes on for long, and is over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, get_args

import pytest
from tests.builders.events import (
    dead_letter,
    line_failed,
    model_promoted,
    model_rolled_back,
    model_trained,
    run_finished,
    version_state,
)
from tests.builders.loops import NOW, live_version, loop_spec, loop_state

from everloop_monitoring.domain.alert_doing import describe_doing
from everloop_monitoring.domain.alert_endings import end_by_time, note_event
from everloop_monitoring.domain.alert_signals import (
    signal_of_dead_letters,
    signal_of_failed_line,
    signal_of_rollback,
    signal_of_version_state,
)
from everloop_monitoring.domain.alerts import MAX_OPEN, AlertBook, Signal
from everloop_monitoring.domain.runbooks import FIRST_STEPS
from everloop_monitoring.domain.silences import Silence, silenced_names
from everloop_monitoring.domain.timeline import decision_entry
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.monitoring import AlertKind
from everloop_schemas.registry import ModelRolledBack

HOUR = timedelta(hours=1)


def signal(name: str = "rule.low", **changes: Any) -> Signal:
    about: dict[str, Any] = {"kind": "rule", "severity": "warning", "message": "low", "caused_by": "e1"}
    return Signal(alert=name, **about | changes)


def told(book: AlertBook) -> Sequence[tuple[str, str]]:
    """What was told since the last call, by name and state."""
    found = [(one.alert.alert, one.state) for one in book.tellings]
    for one in book.tellings:
        one.alert.told_at = NOW
    book.tellings.clear()
    return found


def test_the_same_alert_is_told_once_and_again_when_it_becomes_graver() -> None:
    book = AlertBook({})

    book.raise_alert(signal(), NOW)
    book.raise_alert(signal(message="lower"), NOW + HOUR)
    first = told(book)
    book.raise_alert(signal(severity="critical"), NOW + HOUR)
    book.raise_alert(signal(severity="info"), NOW + HOUR)

    assert (first, told(book)) == ([("rule.low", "firing")], [("rule.low", "firing")])
    alert = book.open["rule.low"]
    assert (alert.since, alert.last, alert.count, alert.severity) == (NOW, NOW + HOUR, 4, "critical")


def test_a_pending_alert_fires_since_it_began_and_one_that_ends_before_is_forgotten() -> None:
    book = AlertBook({})
    book.raise_alert(signal(pending=True), NOW)
    book.raise_alert(signal("rule.other", pending=True), NOW)

    book.raise_alert(signal(), NOW + HOUR)
    book.end("rule.other", "it holds no more", "e2")

    assert told(book) == [("rule.low", "pending"), ("rule.other", "pending"), ("rule.low", "firing")]
    assert book.open["rule.low"].since == NOW
    assert list(book.open) == ["rule.low"]


def test_an_alert_that_goes_on_is_told_again_after_the_interval_unless_it_is_silenced() -> None:
    book = AlertBook({})
    book.raise_alert(signal(), NOW)
    book.raise_alert(signal("rule.quiet"), NOW)
    told(book)

    book.repeat(NOW + HOUR, 4 * HOUR, ())
    too_soon = told(book)
    book.repeat(NOW + 4 * HOUR, 4 * HOUR, {"rule.quiet"})

    assert (too_soon, told(book)) == ([], [("rule.low", "firing")])


def test_a_loop_has_a_bounded_number_of_open_alerts_and_the_oldest_of_the_least_grave_ends() -> None:
    book = AlertBook({})
    for n in range(MAX_OPEN):
        book.raise_alert(signal(f"a{n}", severity="critical" if n == 0 else "warning"), NOW + n * HOUR)
    told(book)

    book.raise_alert(signal("one more"), NOW + MAX_OPEN * HOUR)

    assert told(book) == [("a1", "resolved"), ("one more", "firing")]
    assert len(book.open) == MAX_OPEN


def test_dead_letters_are_over_after_an_hour_without_any() -> None:
    book, letter = AlertBook({}), dead_letter(1)
    assert isinstance(letter, DeadLetter)
    book.raise_alert(signal_of_dead_letters("market", letter, 0, 12), NOW)

    end_by_time(book, None, NOW + HOUR - timedelta(seconds=1))
    before = list(book.open)
    end_by_time(book, None, NOW + HOUR)

    assert before == ["dead_letter"]
    assert told(book) == [("dead_letter", "firing"), ("dead_letter", "resolved")]


def test_an_artifact_is_over_when_every_instance_has_it_or_nobody_uses_the_version() -> None:
    book, state = AlertBook({}), loop_state(champion="logistic-0@9")
    for version, instance in (("logistic-0@9", "one"), ("logistic-0@9", "two"), ("logistic-0@8", "one")):
        event = version_state(version, "failed", instance)
        note_event(book, event)
        failed = signal_of_version_state(event)
        assert failed is not None
        book.raise_alert(failed, NOW)
    told(book)

    note_event(book, version_state("logistic-0@9", "ready", "two"))
    one_left = told(book)
    note_event(book, version_state("logistic-0@9", "ready", "one"))
    end_by_time(book, state, NOW + HOUR)

    assert one_left == []
    assert told(book) == [("artifact.logistic-0@9", "resolved"), ("artifact.logistic-0@8", "resolved")]


def test_a_fairness_requirement_is_over_when_the_spec_has_it_no_more() -> None:
    required, other = "fairness.sex.equal_opportunity <= 0.2", "fairness.sex.calibration <= 0.2"
    spec = loop_spec(gate={"require": [required]})
    book = AlertBook({})
    for name in (required, other):
        book.raise_alert(signal(name, kind="fairness"), NOW)
    told(book)

    end_by_time(book, loop_state(spec), NOW)

    assert told(book) == [(other, "resolved")]


def test_a_failed_line_is_over_with_its_next_version_and_one_that_ended_with_the_next_run() -> None:
    book = AlertBook({})
    for line, state in (("a-0", "restarted"), ("b-0", "ended")):
        book.raise_alert(signal_of_failed_line(line_failed(line, id=line, state=state)), NOW)
    told(book)

    note_event(book, model_trained("a-0", 90))
    note_event(book, model_trained("b-0", 90))
    first = told(book)
    note_event(book, run_finished("c-0"))

    assert (first, told(book)) == ([("line_failed.a-0", "resolved")], [("line_failed.b-0", "resolved")])


@pytest.mark.parametrize("ends", ["promotion", "a day"])
def test_a_rollback_is_over_with_the_next_promotion_or_after_a_day(ends: str) -> None:
    book, event = AlertBook({}), model_rolled_back("logistic-0@9")
    entry = decision_entry(event)
    assert entry is not None
    assert isinstance(event, ModelRolledBack)
    book.raise_alert(signal_of_rollback(event, entry), NOW)
    told(book)

    if ends == "promotion":
        note_event(book, model_promoted("logistic-1@20"))
    else:
        end_by_time(book, loop_state(), NOW + 24 * HOUR)

    assert told(book) == [("rollback", "resolved")]


def test_what_everloop_does_follows_the_loop() -> None:
    book = AlertBook({})
    book.raise_alert(signal("drift", kind="drift", about={"healthy": 0.1}), NOW)
    drift = book.open["drift"]
    candidate = live_version("logistic-1@20")

    def doing(**data: Any) -> str:
        return describe_doing(drift, loop_state(**data))

    assert doing() == "training is asked for a fresh line from the change point; the champion's line goes on learning"
    assert doing(spec=loop_spec(retrain={"on_drift": False})).startswith("nothing: the loop's file does not ask")
    assert doing(candidate=candidate, stage="canary", share=0.25) == "logistic-1@20 is in rollout: canary at 25%"
    assert doing(pinned=True).startswith("nothing: the loop is pinned to 0 until everloop resume")
    book.amend("drift", run="r1", line="logistic-1")
    assert doing() == "run r1 trains line logistic-1, which the gate compares with the champion"
    assert doing(champion="logistic-1@20").startswith("logistic-1@20, of run r1 for this drift, is champion")


def test_a_silence_covers_a_kind_or_one_alert() -> None:
    book = AlertBook({})
    for name, kind in (("drift", "drift"), ("rollback", "rollback"), ("dead_letter", "dead_letter")):
        book.raise_alert(signal(name, kind=kind), NOW)
    until: datetime = NOW + HOUR

    def names(**of: Any) -> set[str]:
        return silenced_names(book.open.values(), [Silence("s", "market", until, "known", "me", **of)])

    assert names(kind="drift") == {"drift"}
    assert names(alert="rollback") == {"rollback"}
    assert names() == {"drift", "rollback", "dead_letter"}


def test_every_kind_of_alert_has_a_first_step() -> None:
    assert set(FIRST_STEPS) == set(get_args(AlertKind))
