"""What is said against what was known: it moves scores by its share, is counted, and told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.monitoring.monitoring_house import LOOP, outcome, running, state

from everloop_monitoring.domain.contradictions import Contradictions
from everloop_monitoring.domain.loop import Fold, Work
from everloop_schemas.envelope import Scalar, at
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import AlertRaised
from everloop_shared.messaging.memory import MemoryBroker

SPEC = LoopSpec.model_validate({"loop": "l", "task": "binary", "schema": {"a": {"type": "number"}}})


def said(
    id: str, label: Scalar | None, correction: int = 0, source: str | None = None, disputed: bool | None = None
) -> OutcomeObservedData:
    """A label, or with a source its feedback, on a prediction of true."""
    return OutcomeObservedData(
        prediction_id=id,
        entity="default",
        label=label,
        correction=correction,
        kind="label" if source is None else "feedback",
        source=source,
        disputed=disputed,
        labelled=at(1),
        predicted=at(0),
        features={"a": 1.0},
        prediction=True,
        version="m@1",
        role="champion",
        propensity=1.0,
    )


def labelled(n: int) -> Fold:
    """A loop that was right n times."""
    fold = Fold(SPEC, Work())
    for i in range(n):
        fold.take(said(f"l{i}", True), i)
    return fold


def served(fold: Fold) -> float:
    """The accuracy of all that was served."""
    return fold.work.sums.over(fold.work.scored, False).served


@pytest.mark.parametrize("source", ["mallory", ""])
def test_one_source_moves_the_accuracy_by_its_share_at_most(source: str) -> None:
    fold = labelled(1_000)

    for i in range(2_000):
        fold.take(said(f"f{i}", False, source=source), 1_000 + i)

    assert 0.95 <= served(fold) < 1
    assert fold.work.outcomes == 3_000
    assert fold.work.contradictions.unheard == 1_950


def test_a_label_counts_where_feedback_was_not_heard() -> None:
    fold = labelled(1_000)
    for i in range(2_000):
        fold.take(said(f"f{i}", False, source="mallory"), 1_000 + i)

    for i in range(2_000):
        fold.take(said(f"f{i}", True, correction=1), 3_000 + i)

    assert (served(fold), fold.work.scored) == (1.0, 3_000)


def test_feedback_that_was_not_heard_is_not_heard_when_it_is_said_otherwise() -> None:
    fold = labelled(200)
    for i in range(100):
        fold.take(said(f"f{i}", True, source="mallory"), 200 + i)

    for i in range(100):
        fold.take(said(f"f{i}", False, correction=1, source="mallory"), 300 + i)

    assert served(fold) == 1.0


def test_disputes_are_counted_and_change_no_score() -> None:
    fold = labelled(1_000)

    risen = []
    for i in range(1_000):
        fold.take(said(f"l{i}", True, 1, "mallory", True), 1_000 + i)
        risen.append(fold.rising)

    assert served(fold) == 1.0
    assert fold.work.contradictions.disputed == 1_000
    [told] = filter(None, risen)
    assert "'mallory'" in told


def test_a_few_corrections_among_many_outcomes_are_no_alarm() -> None:
    fold, risen = labelled(100), list[str]()
    for i in range(1_000):
        fold.take(said(f"n{i}", True), 100 + 2 * i)
        if i % 10 == 0:
            fold.take(said(f"n{i}", False, 1), 101 + 2 * i)
            risen += [fold.rising] if fold.rising else []

    assert risen == []
    assert fold.work.contradictions.changed == 100


def test_once_it_is_calm_again_the_next_rise_is_told_too() -> None:
    rate, told = Contradictions(), list[str | None]()
    for _ in range(2):
        told += [rate.contradicted("labels") for _ in range(50)]
        for _ in range(300):
            rate.agreed()

    assert len(list(filter(None, told))) == 2


def test_many_names_are_no_reason_to_remember_them_all() -> None:
    rate = Contradictions()

    for i in range(1_000):
        rate.contradicted(f"feedback of {i}" + "x" * 1_000)

    assert len(rate.by) == 20
    assert all(len(name) == 80 for name in rate.by)


async def test_an_alert_is_raised_and_stands_on_the_timeline(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as house:
        await house.send(state(), *[outcome(f"p{i}", True) for i in range(50)])
        await house.send(*[outcome(f"p{i}", False, correction=1) for i in range(50)])
        await house.caught_up()

        [alert] = [e for e in broker.events(AlertRaised.topic) if e.data.kind == "corrections"]
        alerts = await house.ask("alerts")
        evaluation = await house.ask("evaluation")

    assert (alert.loop, alert.data.severity) == (LOOP, "warning")
    assert [a["kind"] for a in alerts] == ["corrections"]
    assert evaluation["contradictions"]["changed"] == 50
