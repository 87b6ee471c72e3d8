"""What lines are told to have lost: the same losses are the same event, others are another."""

from __future__ import annotations

from tests.training.training_world import tools

from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.training import ChallengeUpdated, Line
from everloop_training.domain.challenge import Challenge
from everloop_training.domain.voice import Voice


def told(*names: str) -> ChallengeUpdated:
    voice, challenge = Voice("market", 0, tools()), Challenge()
    challenge.add(7, {name: len(name) / 100 for name in names})
    for name in names:
        model = ModelSpec(preset="logistic")
        challenge.lines[name] = Line(run="r", line=name, model=model, start_offset=0, requested_offset=0)
    voice.challenged(1, challenge)
    [event] = voice.events
    assert isinstance(event, ChallengeUpdated)
    return event


def test_the_order_in_which_lines_came_back_says_nothing() -> None:
    one, other = told("old-0", "fresh-5"), told("fresh-5", "old-0")

    assert (one.id, one.data.model_dump_json()) == (other.id, other.data.model_dump_json())


def test_one_more_line_after_a_restart_is_another_event() -> None:
    assert told("old-0").id != told("old-0", "fresh-5").id
