"""Contradictions move scores by the share of their source, are counted, and raise an alert when they are frequent."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.builders.events import outcome_data
from tests.builders.loops import LOOP, loop_spec
from tests.monitoring.monitoring_service import outcome, running, state

from everloop_monitoring.domain.contradictions import Contradictions
from everloop_monitoring.domain.evaluation import BatchEvaluation
from everloop_monitoring.domain.state import EvaluationState
from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.monitoring import AlertRaised
from everloop_shared.messaging.memory import MemoryBroker


def report(
    id: str, label: Scalar | None, correction: int = 0, source: str | None = None, disputed: bool | None = None
) -> OutcomeObservedData:
    """An outcome of a prediction of true: with a label, or with the feedback of `source`."""
    kind = "label" if source is None else "feedback"
    return outcome_data(id, label, correction=correction, kind=kind, source=source, disputed=disputed, version="m@1")


def labelled(n: int) -> BatchEvaluation:
    """A loop whose first n predictions were right."""
    evaluation = BatchEvaluation(loop_spec(), EvaluationState())
    for i in range(n):
        evaluation.add(report(f"l{i}", True), i)
    return evaluation


def served(evaluation: BatchEvaluation) -> float:
    """The accuracy of all that was served."""
    return evaluation.state.sums.scores_over(evaluation.state.scored, False).served


@pytest.mark.parametrize("source", ["mallory", ""])
def test_one_source_moves_the_accuracy_by_its_share_at_most(source: str) -> None:
    evaluation = labelled(1_000)

    for i in range(2_000):
        evaluation.add(report(f"f{i}", False, source=source), 1_000 + i)

    assert 0.95 <= served(evaluation) < 1
    assert evaluation.state.outcomes == 3_000
    assert evaluation.state.contradictions.over_share == 1_950


def test_a_label_counts_where_feedback_was_over_its_share() -> None:
    evaluation = labelled(1_000)
    for i in range(2_000):
        evaluation.add(report(f"f{i}", False, source="mallory"), 1_000 + i)

    for i in range(2_000):
        evaluation.add(report(f"f{i}", True, correction=1), 3_000 + i)

    assert (served(evaluation), evaluation.state.scored) == (1.0, 3_000)


def test_feedback_over_its_share_does_not_count_when_it_is_corrected_either() -> None:
    evaluation = labelled(200)
    for i in range(100):
        evaluation.add(report(f"f{i}", True, source="mallory"), 200 + i)

    for i in range(100):
        evaluation.add(report(f"f{i}", False, correction=1, source="mallory"), 300 + i)

    assert served(evaluation) == 1.0


def test_disputes_are_counted_and_change_no_score() -> None:
    evaluation = labelled(1_000)

    alerts = []
    for i in range(1_000):
        evaluation.add(report(f"l{i}", True, 1, "mallory", True), 1_000 + i)
        alerts.append(evaluation.corrections_alert)

    assert served(evaluation) == 1.0
    assert evaluation.state.contradictions.disputed == 1_000
    [message] = filter(None, alerts)
    assert "'mallory'" in message


def test_a_few_corrections_among_many_outcomes_raise_no_alert() -> None:
    evaluation, alerts = labelled(100), list[str]()
    for i in range(1_000):
        evaluation.add(report(f"n{i}", True), 100 + 2 * i)
        if i % 10 == 0:
            evaluation.add(report(f"n{i}", False, 1), 101 + 2 * i)
            alerts += [evaluation.corrections_alert] if evaluation.corrections_alert else []

    assert alerts == []
    assert evaluation.state.contradictions.changed == 100


def test_after_a_calm_the_next_rise_raises_an_alert_too() -> None:
    contradictions, alerts = Contradictions(), list[str | None]()
    for _ in range(2):
        alerts += [contradictions.record("labels") for _ in range(50)]
        for _ in range(300):
            contradictions.record_agreement()

    assert len(list(filter(None, alerts))) == 2


def test_the_number_and_length_of_source_names_is_limited() -> None:
    contradictions = Contradictions()

    for i in range(1_000):
        contradictions.record(f"feedback of {i}" + "x" * 1_000)

    assert len(contradictions.by_source) == 20
    assert all(len(name) == 80 for name in contradictions.by_source)


async def test_an_alert_is_raised_and_is_on_the_timeline(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), *[outcome(f"p{i}", True) for i in range(50)])
        await monitoring.publish(*[outcome(f"p{i}", False, correction=1) for i in range(50)])
        await monitoring.caught_up()

        [alert] = [e for e in broker.events(AlertRaised.topic) if e.data.kind == "corrections"]
        shown = await monitoring.get("alerts")
        evaluation = await monitoring.get("evaluation")

    assert (alert.loop, alert.data.severity) == (LOOP, "warning")
    assert [a["kind"] for a in shown] == ["corrections"]
    assert evaluation["contradictions"]["changed"] == 50
