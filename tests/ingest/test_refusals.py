"""Letters of refused observations: few, at a bounded rate, which count all that was refused."""

from __future__ import annotations

from datetime import timedelta

from tests.builders.events import observation
from tests.builders.loops import LOOP, NOW, loop_spec

from everloop_features.expectations import errors_of, refused_by
from everloop_ingest.domain.refusals import (
    LETTERS_AT_ONCE,
    MAX_KEPT_BYTES,
    SECONDS_PER_LETTER,
    Refusal,
    RefusalLetters,
)
from everloop_schemas.dead_letter import DeadLetter

SPEC = loop_spec(
    schema={"age": {"type": "number"}, "plan": {"type": "string"}},
    expect=[
        {"field": "age", "between": [0, 120], "then": "dead_letter"},
        {"field": "plan", "one_of": ["free"], "then": "dead_letter"},
    ],
)


def refusals(count: int, first: int = 0, age: float = 300.0, plan: str = "free") -> list[Refusal]:
    found = []
    for i in range(first, first + count):
        event = observation(f"e{i}", {"age": age, "plan": plan})
        broken = refused_by(SPEC, event.data.fields)
        found.append(Refusal(event, broken, tuple(errors_of(broken))))
    return found


def counted(letters: list[DeadLetter], of: str = "age.between") -> int:
    return sum((letter.data.unexpected or {}).get(of, 0) for letter in letters)


def test_a_flood_gets_few_letters_and_each_refusal_is_counted_once() -> None:
    writer, at, letters = RefusalLetters(), NOW, list[DeadLetter]()
    for i in range(100):
        letters += writer.write(LOOP, refusals(50, first=50 * i), at)
        at += timedelta(seconds=1)
    letters += writer.write(LOOP, refusals(1, first=5000), at + timedelta(seconds=SECONDS_PER_LETTER))

    assert len(letters) <= LETTERS_AT_ONCE + 100 / SECONDS_PER_LETTER + 2
    assert counted(letters) == 5001


def test_the_last_letter_of_a_request_counts_those_that_have_none() -> None:
    letters = RefusalLetters().write(LOOP, refusals(1000), NOW)

    assert len(letters) == LETTERS_AT_ONCE
    assert [(letter.data.unexpected or {})["age.between"] for letter in letters] == [1] * 19 + [981]


def test_loops_have_letters_of_their_own() -> None:
    writer = RefusalLetters()
    writer.write(LOOP, refusals(1000), NOW)

    assert writer.write(LOOP, refusals(3), NOW) == []
    assert len(writer.write("other", refusals(3), NOW)) == 3
    assert writer.write("other", [], NOW) == []


def test_a_letter_says_what_was_broken_and_holds_the_observation() -> None:
    [refused] = refusals(1, age=-1.0, plan="golf")

    [letter], [again] = (RefusalLetters().write(LOOP, [refused], NOW) for _ in (1, 2))
    [other] = RefusalLetters().write(LOOP, refusals(1), NOW)

    assert letter.data.unexpected == {"age.between": 1, "plan.one_of": 1}
    assert "data.age is expected to be between 0 and 120" in letter.data.reason
    assert (letter.loop, letter.causationid, letter.data.offset) == (LOOP, "e0", -1)
    assert letter.id == again.id != other.id
    assert DeadLetter.decode(letter.encode()).data == letter.data


def test_of_a_large_observation_only_the_reason_is_kept() -> None:
    [letter] = RefusalLetters().write(LOOP, refusals(1, plan="x" * MAX_KEPT_BYTES), NOW)

    assert letter.data.value is None
    assert len(letter.encode()) < 10_000
