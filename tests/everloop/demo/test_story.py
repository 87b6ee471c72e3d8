"""The demo's story is a fold of events."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest

from everloop.demo.story import Story, missing_steps
from everloop.demo.stream import DemoStream, read_market
from everloop.demo.view import chart, report
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import ModelPromoted
from everloop_schemas.training import RunFinished, RunRequested

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make(cls: type[Event], data: dict[str, Any], **rest: Any) -> Event:
    about = {"id": f"{cls.__name__}-{len(str(data))}", "time": NOW, "subject": "s", "loop": "market"}
    return cls.model_validate({**about, "data": data, **rest})


def outcome(subject: str, hit: bool) -> Event:
    data = {
        "prediction_id": subject,
        "entity": "default",
        "label": True,
        "labelled": NOW,
        "predicted": NOW,
        "features": {},
        "prediction": hit,
        "version": "0",
        "role": "baseline",
        "propensity": 1.0,
    }
    return make(OutcomeObserved, data, subject=subject)


def drift(**changes: Any) -> Event:
    data = {"detector": "adwin", "offset": 9, "change_point": 8, "outcomes": 9, "outcomes_since_change": 1}
    data |= {"error_before": 0.1, "error_after": 0.9, "version": "a@1", **changes}
    return make(DriftDetected, data, id="alarm")


def run(name: str, cause: str) -> list[Event]:
    requested = {"run": name, "key": name, "trigger": "drift", "reason": "drift", "line": "b-8", "start_offset": 8}
    model = {"model": {"preset": "logistic"}, "requested_offset": 9}
    finished = {"run": name, "line": "b-8", "state": "trained", "offset": 9, "outcomes": 2}
    return [
        make(RunRequested, {**requested, **model}, correlationid=name, causationid=cause),
        make(RunFinished, finished, correlationid=name),
    ]


def promoted(version: str, run_id: str) -> Event:
    data = {"version": version, "previous": "a@1", "reason": "gate"}
    return make(ModelPromoted, data, correlationid=run_id, sequence=1, prevhash="")


def add(story: Story, *events: Event) -> Story:
    for event in events:
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

    add(story, outcome("row-1", True), drift(kind="data", subject="price"))

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
