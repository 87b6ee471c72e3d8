"""Reports of losses: the same losses are the same event, other losses are another."""

from __future__ import annotations

from tests.training.training_harness import dependencies, spec

from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.training import ChallengeUpdated, Line
from everloop_training.worker.learners.event_factory import EventFactory
from everloop_training.worker.learners.loop_learner import LossReporter
from everloop_training.worker.learners.required_measures import RequiredMeasures


def report(*names: str) -> ChallengeUpdated:
    events = EventFactory("market", 0, dependencies())
    reporter, model = LossReporter(events, RequiredMeasures(spec())), ModelSpec(preset="logistic")
    lines = [Line(run="r", line=name, model=model, start_offset=0, requested_offset=0) for name in names]
    reporter.add(7, {name: len(name) / 100 for name in names}, lines)
    reporter.report(1)
    [event] = events.pending
    assert isinstance(event, ChallengeUpdated)
    return event


def test_the_order_of_the_lines_makes_no_difference() -> None:
    one, other = report("old-0", "fresh-5"), report("fresh-5", "old-0")

    assert (one.id, one.data.model_dump_json()) == (other.id, other.data.model_dump_json())


def test_one_more_line_after_a_restart_is_another_event() -> None:
    assert report("old-0").id != report("old-0", "fresh-5").id
