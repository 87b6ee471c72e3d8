"""The demo's story is a fold of events."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from tests.builders import events

from everloop.demo.story import Story, missing_steps
from everloop.demo.stream import DemoStream, read_market
from everloop.demo.view import chart, report
from everloop_schemas.envelope import Event


def outcome(subject: str, hit: bool) -> Event:
    return events.outcome_observed(subject, True, prediction=hit)


def drift(**changes: Any) -> Event:
    return events.drift_detected(9, 8, **{"id": "alarm", **changes})


def run(name: str, cause: str) -> list[Event]:
    """The request and the end of the run that a drift has caused."""
    about = {"run": name, "correlationid": name}
    return [events.run_requested("b-8", causationid=cause, **about), events.run_finished("b-8", **about)]


def promoted(version: str, run_id: str) -> Event:
    return events.model_promoted(version, "a@1", correlationid=run_id)


def add(story: Story, *added: Event) -> Story:
    for event in added:
        story.on(event)
    return story


def test_a_loop_that_closes_has_every_step_and_nothing_missing() -> None:
    story = Story(onset_id="row-2")

    add(story, promoted("a@1", "r0"), promoted("c@2", "r1"))
    add(story, outcome("row-1", True), outcome("row-2", True), drift(), *run("r", "alarm"), promoted("b@9", "r"))

    assert story.closed
    assert missing_steps(story) == []


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_topics_may_be_read_in_any_order(order: tuple[int, ...]) -> None:
    story, steps = Story(onset_id="row-1"), [drift(), *run("r", "alarm")]

    add(story, outcome("row-1", True), *[steps[i] for i in order], promoted("b@9", "r"))

    assert missing_steps(story) == []


def test_a_drift_of_a_feature_is_shown_and_is_not_the_drift_of_the_demo() -> None:
    story = Story(onset_id="row-1")

    add(story, outcome("row-1", True), drift(kind="data", of="price"))

    assert [moment.what for moment in story.timeline][-1] == "data drift detected"
    assert "the drift was not detected" in missing_steps(story)


def test_a_promotion_of_another_run_does_not_close_the_loop() -> None:
    story = Story(onset_id="row-1")

    add(story, outcome("row-1", True), drift(), *run("r", "a person"), promoted("b@9", "other"))

    assert not story.closed
    assert "the fresh line did not become champion" in missing_steps(story)


def test_an_accuracy_that_stays_down_is_missing() -> None:
    story = Story(onset_id="onset")

    add(story, *[outcome(f"a{i}", True) for i in range(50)], outcome("onset", False))
    add(story, *[outcome(f"b{i}", False) for i in range(50)])

    assert story.recovery.accuracy_before == pytest.approx(1.0)
    assert any("did not come back" in what for what in missing_steps(story))


def test_the_market_turns_at_the_onset(electricity: Any) -> None:
    calm = list(read_market(electricity, DemoStream(before=10, after=0)))

    turned = list(read_market(electricity, DemoStream(before=5, after=5)))

    assert [label["label"] for _, label in turned[:5]] == [label["label"] for _, label in calm[:5]]
    assert [label["label"] for _, label in turned[5:]] == [not label["label"] for _, label in calm[5:]]


def test_the_views_draw_an_empty_and_a_full_story() -> None:
    story = add(Story(onset_id="x"), *[outcome(str(i), i % 3 > 0) for i in range(100)])

    drawn = chart(story.points, 100, [50])

    assert "served" in drawn.plain
    assert report(story)
    assert "served -" in chart([], 100, []).plain
