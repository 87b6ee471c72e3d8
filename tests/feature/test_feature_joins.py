"""How predictions, labels and feedback become outcomes: either order, corrections, feedback, lateness."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.feature.feature_events import event, label, prediction
from tests.feature.join_harness import JoinHarness, JoinInput, feedback, without_time

from everloop_feature.domain.join import Truth
from everloop_feature.domain.label_join import resolve_truth
from everloop_feature.errors import RecordRejected
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.feature import LabelJoined, OutcomeObserved
from everloop_schemas.ingest import LabelReceived

CLASSES: dict[str, Any] = {"task": "multiclass", "label": {"type": "string", "within": "1h"}}
OPINIONS = (
    (False, "support"),
    (False, "support"),
    (False, None),
    (False, None),
    (True, "support"),
    (False, "support"),
)
"""What feedback says (`correct`), and its source."""
FIRST_DAY, LAST_DAY = (datetime(*day, tzinfo=UTC) for day in ((1, 1, 1), (9999, 12, 31)))


async def test_either_order_gives_the_same_bytes() -> None:
    [late] = await JoinHarness().outcomes(prediction(1), label(1))

    [early] = await JoinHarness().outcomes(label(1), prediction(1))

    assert late.encode() == early.encode()
    assert (late.data.version, late.data.propensity, late.data.features) == ("logistic-0@5", 0.75, {"price": 1.0})
    assert late.data.shadows == prediction(1).data.shadows


async def test_the_span_of_an_outcome_says_which_version_had_predicted() -> None:
    joins = JoinHarness()
    await joins.handle(prediction(1))

    [outcome] = [e for e in await joins.handle(label(1)) if isinstance(e, OutcomeObserved)]

    assert outcome.span_attributes() == {"everloop.version": "logistic-0@5"}


async def test_the_latest_label_wins_and_is_a_correction_not_a_second_outcome() -> None:
    outcomes = await JoinHarness().outcomes(prediction(1), label(1, True), label(1, False, id="again"))

    assert [(o.data.label, o.data.correction, o.subject) for o in outcomes] == [(True, 0, "e1"), (False, 1, "e1")]
    assert len({o.id for o in outcomes}) == 2


async def test_the_same_label_twice_changes_nothing() -> None:
    joins = JoinHarness()
    await joins.outcomes(prediction(1), label(1, True))

    outcomes = await joins.outcomes(label(1, True), label(1, True, id="other-id-same-label"), prediction(1))

    assert outcomes == []


async def test_labels_before_the_prediction_are_joined_in_their_order() -> None:
    outcomes = await JoinHarness().outcomes(label(1, True), feedback(1, correct=False), prediction(1, True))

    assert [(o.data.label, o.data.kind, o.data.correction, o.data.disputed) for o in outcomes] == [
        (True, "label", 0, None),
        (True, "feedback", 1, True),
    ]


async def test_feedback_counts_even_where_the_label_stays() -> None:
    outcomes = await JoinHarness().outcomes(prediction(1, True), label(1, False), feedback(1, correct=False))

    assert [(o.data.label, o.data.kind) for o in outcomes] == [(False, "label"), (False, "feedback")]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_the_label_with_the_latest_time_stands_whatever_the_order(order: tuple[int, ...]) -> None:
    events: list[JoinInput] = [prediction(1), label(1, True, "a", after=1), label(1, False, "b", after=2)]
    events.append(label(1, True, "c", after=3))

    outcomes = await JoinHarness().outcomes(*(events[i] for i in order))

    assert outcomes[-1].data.label is True
    assert [o.data.correction for o in outcomes] == list(range(len(outcomes)))


async def test_an_older_label_that_comes_later_changes_nothing() -> None:
    outcomes = await JoinHarness().outcomes(
        prediction(1), label(1, True, "new", after=20), label(1, False, "old", after=10)
    )

    assert [o.data.label for o in outcomes] == [True]


async def test_of_labels_with_equal_times_the_one_that_came_last_stands() -> None:
    outcomes = await JoinHarness().outcomes(
        prediction(1), *(label(1, v, f"l{i}") for i, v in enumerate((True, False, True)))
    )

    assert [o.data.label for o in outcomes] == [True, False, True]


async def test_labels_without_times_count_in_the_order_of_their_arrival_also_after_one_that_has_a_time() -> None:
    ahead = label(1, True, "ahead", after=61 + 200)

    outcomes = await JoinHarness().outcomes(
        prediction(1), ahead, *(without_time(label(1, v, f"u{v}")) for v in (False, True))
    )

    assert [o.data.label for o in outcomes] == [True, False, True]


async def test_a_label_with_an_older_time_than_one_without_a_time_loses_against_its_arrival() -> None:
    outcomes = await JoinHarness().outcomes(
        prediction(1), without_time(label(1, True, "u")), label(1, False, "old", after=10)
    )

    assert [o.data.label for o in outcomes] == [True]


async def test_a_label_in_the_place_of_feedback_is_a_correction_whatever_its_time() -> None:
    outcomes = await JoinHarness().outcomes(
        prediction(1), feedback(1, correct=False, after=60), label(1, True, after=5)
    )

    assert [(o.data.label, o.data.kind) for o in outcomes] == [(False, "feedback"), (True, "label")]


async def test_feedback_of_one_source_counts_once_until_it_differs() -> None:
    opinions = [feedback(1, f"f{i}", correct=c, source=s) for i, (c, s) in enumerate(OPINIONS)]

    outcomes = await JoinHarness().outcomes(prediction(1, True), label(1, True), *opinions)

    counted = [(o.data.source, o.data.disputed) for o in outcomes if o.data.kind == "feedback"]
    assert counted == [("support", True), (None, True), ("support", None), ("support", True)]
    assert {o.data.label for o in outcomes} == {True}


@pytest.mark.parametrize(("edge", "kinds"), [(FIRST_DAY, [DeadLetter, OutcomeObserved]), (LAST_DAY, [OutcomeObserved])])
async def test_labels_of_observations_at_the_ends_of_the_calendar_are_joined_or_become_dead_letters(
    edge: datetime, kinds: list[type[Event]]
) -> None:
    joins, made = JoinHarness(), prediction(1)
    made = made.copy_with(data=replace(made.data, observed=edge))

    published = [e for s in (made, label(1), without_time(label(1, id="other"))) for e in await joins.handle(s)]

    assert [isinstance(e, kind) for e, kind in zip(published, kinds, strict=True)] == [True] * len(kinds)


async def test_a_label_from_the_future_is_a_dead_letter_with_its_reason() -> None:
    joins = JoinHarness()
    await joins.handle(prediction(1))

    [dead_letter] = await joins.handle(label(1).copy_with(time=datetime(2099, 1, 1, tzinfo=UTC)))

    assert isinstance(dead_letter, DeadLetter)
    assert (dead_letter.data.error, "in the future" in dead_letter.data.reason) == ("TimeOutOfBounds", True)


async def test_correct_false_of_several_classes_leaves_the_label_open() -> None:
    joins = JoinHarness(**CLASSES)

    outcomes = await joins.outcomes(prediction(1, "cat"), feedback(1, correct=False), label(1, "dog"))

    assert [(o.data.label, o.data.rejected) for o in outcomes] == [(None, "cat"), ("dog", None)]


async def test_correct_false_keeps_a_different_label_known_before() -> None:
    joins = JoinHarness(**CLASSES)

    outcomes = await joins.outcomes(prediction(1, "cat"), label(1, "dog"), feedback(1, correct=False))

    assert [(o.data.label, o.data.rejected) for o in outcomes] == [("dog", None), ("dog", None)]


def test_correct_true_makes_the_prediction_the_label() -> None:
    assert resolve_truth("multiclass", "cat", Truth("dog"), feedback(1, correct=True)) == Truth("cat")


@pytest.mark.parametrize(("kind", "unknown"), [("string", "<unknown>"), ("integer", -(2**63)), ("string", "")])
@pytest.mark.parametrize("correct", [True, False])
async def test_a_prediction_that_named_no_class_cannot_be_right_or_wrong(
    kind: str, unknown: str | int, correct: bool
) -> None:
    joins = JoinHarness(task="multiclass", label={"type": kind})

    await joins.handle(prediction(1, unknown))
    [dead_letter] = await joins.handle(feedback(1, correct=correct))

    assert isinstance(dead_letter, DeadLetter)
    assert "is no label of the loop" in dead_letter.data.reason


async def test_the_class_itself_still_counts_where_the_prediction_named_none() -> None:
    outcomes = await JoinHarness(task="multiclass").outcomes(prediction(1, "<unknown>"), label(1, "cat"))

    assert [(o.data.label, o.data.prediction) for o in outcomes] == [("cat", "<unknown>")]


async def test_correct_false_about_a_number_is_rejected() -> None:
    joins = JoinHarness(task="regression", label={"within": "1h"})

    await joins.handle(prediction(1, 3.5))
    with pytest.raises(RecordRejected, match="label: is missing"):
        await joins.handle(feedback(1, correct=False))


async def test_a_label_later_than_the_loop_allows_is_a_dead_letter_with_its_reason() -> None:
    joins = JoinHarness()
    await joins.handle(prediction(1))

    [dead_letter] = await joins.handle(label(1, after=3601))

    assert isinstance(dead_letter, DeadLetter)
    assert dead_letter.data.error == "LabelTooLate"
    assert dead_letter.subject == "ingest.label_received.v1/0/0"


async def test_a_label_without_a_time_of_its_own_is_never_late() -> None:
    joins = JoinHarness()
    await joins.handle(prediction(1))
    arrived = label(1, after=9999)

    outcomes = await joins.handle(arrived.copy_with(data=replace(arrived.data, received=arrived.time)))

    assert isinstance(outcomes[0], OutcomeObserved)


async def test_a_label_is_published_for_its_entity_only_where_a_feature_needs_it() -> None:
    with_lag = JoinHarness(features=[{"name": "last", "lag": "label"}])

    published = [await joins.handle(e) for joins in (with_lag, JoinHarness()) for e in (prediction(1), label(1))]

    assert [[type(e) for e in events] for events in published] == [
        [],
        [OutcomeObserved, LabelJoined],
        [],
        [OutcomeObserved],
    ]
    joined = published[1][1]
    assert isinstance(joined, LabelJoined)
    assert (joined.subject, joined.data.label, joined.data.observed) == ("ada", True, event(1).time)


async def test_a_record_that_was_applied_is_not_applied_again() -> None:
    joins = JoinHarness()
    await joins.handle(prediction(1))
    await joins.handle(label(1, True), offset=7)
    await joins.handle(label(1, False, id="newer"), offset=8)

    replayed = [await joins.handle(label(1, True), offset=7), await joins.handle(label(1, False, id="newer"), offset=8)]

    assert replayed == [[], []]


@given(st.permutations([label(1, True), feedback(1, id="f1", correct=False), label(1, False, id="l2"), prediction(1)]))
async def test_corrections_count_up_whatever_the_order_and_the_last_label_is_the_truth(events: Any) -> None:
    outcomes = await JoinHarness().outcomes(*events)

    assert [o.data.correction for o in outcomes] == list(range(len(outcomes)))
    labels = [e for e in events if isinstance(e, LabelReceived) and e.data.kind == "label"]
    assert outcomes[-1].data.label is labels[-1].data.label


def test_feedback_without_label_and_correct_is_refused() -> None:
    with pytest.raises(ValueError, match="label"):
        resolve_truth("binary", True, None, feedback(1))


async def test_a_label_that_repeats_what_feedback_says_is_an_outcome_of_its_own() -> None:
    outcomes = await JoinHarness().outcomes(
        prediction(1, True), feedback(1, correct=True, source="support"), label(1, True)
    )

    assert [(o.data.kind, o.data.label, o.data.correction) for o in outcomes] == [
        ("feedback", True, 0),
        ("label", True, 1),
    ]
