"""How a prediction and the words on it become outcomes: either order, corrections, feedback, lateness, expiry."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.feature.feature_world import event, label, loop_state, prediction, spec

from everloop_feature.deadlines import Deadlines
from everloop_feature.errors import RecordRejected
from everloop_feature.join import Join, Truth, Waiting
from everloop_feature.joining import JoinHandlers
from everloop_feature.loops import Loops
from everloop_feature.metrics import PrometheusNotes
from everloop_feature.words import resolve
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.feature import LabelJoined, OutcomeObserved
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.serving import PredictionMade
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import Position

Said = PredictionMade | LabelReceived
CLASSES: dict[str, Any] = {"task": "multiclass", "label": {"type": "string", "within": "1h"}}


class Desk:
    """Handlers over a store, with a log of their own."""

    def __init__(self, most: int = 3, most_bytes: int = 1_000_000, **changes: Any) -> None:
        self.store, loops = KeyedStore("joins"), Loops()
        for name in ("shop", "other"):
            loops.apply(loop_state(spec(name, **changes)))
        tables = Deadlines(most, most_bytes), Deadlines(most, most_bytes)
        self.handlers = JoinHandlers(loops, self.store, PrometheusNotes(), *tables)
        self.offsets = {kind.topic.name: itertools.count() for kind in (PredictionMade, LabelReceived)}

    async def hear(
        self, said: PredictionMade | LabelReceived, time_ms: int = 0, offset: int | None = None
    ) -> list[Event]:
        """Handle one record; nothing leaves the process."""
        name = said.topic.name
        at = Position(name, 0, next(self.offsets[name]) if offset is None else offset, time_ms)
        if isinstance(said, PredictionMade):
            return await self.handlers.on_prediction_made(said, at)
        return await self.handlers.on_label_received(said, at)

    async def outcomes(self, *said: Said) -> list[OutcomeObserved]:
        """The outcomes of several records."""
        return [e for s in said for e in await self.hear(s) if isinstance(e, OutcomeObserved)]

    def kept(self) -> set[str]:
        """The keys of which something is remembered."""
        return {key for (_, key), entry in self.store._changed.items() if entry.value is not None}

    async def sweep(self, time_ms: int) -> list[Event]:
        """Let what is due expire."""
        return await self.handlers.sweep(Position("", 0, -1, time_ms))


VOICES = ((False, "desk"), (False, "desk"), (False, None), (False, None), (True, "desk"), (False, "desk"))
FIRST_DAY, LAST_DAY = (datetime(*day, tzinfo=UTC) for day in ((1, 1, 1), (9999, 12, 31)))


def untimed(said: LabelReceived) -> LabelReceived:
    """A label whose sender said no time: it carries the door's."""
    return said.model_copy(update={"time": said.data.received})


def feedback(n: int, id: str = "f", **data: Any) -> LabelReceived:
    return label(n, **({"value": None, "id": id, "kind": "feedback"} | data))


async def test_either_order_gives_the_same_bytes() -> None:
    [late] = await Desk().outcomes(prediction(1), label(1))

    [early] = await Desk().outcomes(label(1), prediction(1))

    assert late.encode() == early.encode()
    assert (late.data.version, late.data.propensity, late.data.features) == ("logistic-0@5", 0.75, {"price": 1.0})
    assert late.data.shadows == prediction(1).data.shadows


async def test_the_latest_word_wins_and_is_a_correction_not_a_second_outcome() -> None:
    said = await Desk().outcomes(prediction(1), label(1, True), label(1, False, id="again"))

    assert [(o.data.label, o.data.correction, o.subject) for o in said] == [(True, 0, "e1"), (False, 1, "e1")]
    assert len({o.id for o in said}) == 2


async def test_the_same_word_twice_changes_nothing() -> None:
    desk = Desk()
    await desk.outcomes(prediction(1), label(1, True))

    said = await desk.outcomes(label(1, True), label(1, True, id="other-id-same-label"), prediction(1))

    assert said == []


async def test_words_before_the_prediction_are_heard_in_their_order() -> None:
    said = await Desk().outcomes(label(1, True), feedback(1, correct=False), prediction(1, True))

    assert [(o.data.label, o.data.kind, o.data.correction, o.data.disputed) for o in said] == [
        (True, "label", 0, None),
        (True, "feedback", 1, True),
    ]


async def test_feedback_counts_even_where_the_label_stays() -> None:
    said = await Desk().outcomes(prediction(1, True), label(1, False), feedback(1, correct=False))

    assert [(o.data.label, o.data.kind) for o in said] == [(False, "label"), (False, "feedback")]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_the_label_with_the_latest_time_stands_whatever_the_order(order: tuple[int, ...]) -> None:
    said: list[Said] = [prediction(1), label(1, True, "a", after=1), label(1, False, "b", after=2)]
    said.append(label(1, True, "c", after=3))

    outcomes = await Desk().outcomes(*(said[i] for i in order))

    assert outcomes[-1].data.label is True
    assert [o.data.correction for o in outcomes] == list(range(len(outcomes)))


async def test_an_older_label_that_comes_later_changes_nothing() -> None:
    said = await Desk().outcomes(prediction(1), label(1, True, "new", after=20), label(1, False, "old", after=10))

    assert [o.data.label for o in said] == [True]


async def test_of_labels_with_equal_times_the_one_that_came_last_stands() -> None:
    said = await Desk().outcomes(prediction(1), *(label(1, v, f"l{i}") for i, v in enumerate((True, False, True))))

    assert [o.data.label for o in said] == [True, False, True]


async def test_labels_without_times_count_in_the_order_of_their_arrival_also_after_one_that_has_a_time() -> None:
    ahead = label(1, True, "ahead", after=61 + 200)

    said = await Desk().outcomes(prediction(1), ahead, *(untimed(label(1, v, f"u{v}")) for v in (False, True)))

    assert [o.data.label for o in said] == [True, False, True]


async def test_a_label_said_to_be_older_than_one_without_a_time_loses_against_its_arrival() -> None:
    said = await Desk().outcomes(prediction(1), untimed(label(1, True, "u")), label(1, False, "old", after=10))

    assert [o.data.label for o in said] == [True]


async def test_a_label_in_the_place_of_feedback_is_a_correction_whatever_its_time() -> None:
    said = await Desk().outcomes(prediction(1), feedback(1, correct=False, after=60), label(1, True, after=5))

    assert [(o.data.label, o.data.kind) for o in said] == [(False, "feedback"), (True, "label")]


async def test_one_source_counts_once_for_each_thing_it_says_of_a_prediction() -> None:
    words = [feedback(1, f"f{i}", correct=c, source=s) for i, (c, s) in enumerate(VOICES)]

    said = await Desk().outcomes(prediction(1, True), label(1, True), *words)

    heard = [(o.data.source, o.data.disputed) for o in said if o.data.kind == "feedback"]
    assert heard == [("desk", True), (None, True), ("desk", None), ("desk", True)]
    assert {o.data.label for o in said} == {True}


@pytest.mark.parametrize(("edge", "kinds"), [(FIRST_DAY, [DeadLetter, OutcomeObserved]), (LAST_DAY, [OutcomeObserved])])
async def test_labels_of_observations_at_the_ends_of_the_calendar_are_joined_or_parked(
    edge: datetime, kinds: list[type[Event]]
) -> None:
    desk, made = Desk(), prediction(1)
    made = made.model_copy(update={"data": made.data.model_copy(update={"observed": edge})})

    said = [e for s in (made, label(1), untimed(label(1, id="other"))) for e in await desk.hear(s)]

    assert [isinstance(e, kind) for e, kind in zip(said, kinds, strict=True)] == [True] * len(kinds)


async def test_a_label_from_the_future_by_the_topic_is_parked_with_its_reason() -> None:
    desk = Desk()
    await desk.hear(prediction(1))

    [letter] = await desk.hear(label(1).model_copy(update={"time": datetime(2099, 1, 1, tzinfo=UTC)}))

    assert isinstance(letter, DeadLetter)
    assert (letter.data.error, "in the future" in letter.data.reason) == ("TimeOutOfBounds", True)


async def test_not_this_of_several_classes_leaves_the_label_open() -> None:
    desk = Desk(**CLASSES)

    said = await desk.outcomes(prediction(1, "cat"), feedback(1, correct=False), label(1, "dog"))

    assert [(o.data.label, o.data.rejected) for o in said] == [(None, "cat"), ("dog", None)]


async def test_not_this_keeps_a_different_label_known_before() -> None:
    desk = Desk(**CLASSES)

    said = await desk.outcomes(prediction(1, "cat"), label(1, "dog"), feedback(1, correct=False))

    assert [(o.data.label, o.data.rejected) for o in said] == [("dog", None), ("dog", None)]


def test_right_is_what_was_predicted() -> None:
    assert resolve("multiclass", "cat", Truth("dog"), feedback(1, correct=True)) == Truth("cat")


@pytest.mark.parametrize(("kind", "unknown"), [("string", "<unknown>"), ("integer", -(2**63)), ("string", "")])
@pytest.mark.parametrize("correct", [True, False])
async def test_a_prediction_that_named_no_class_cannot_be_right_or_wrong(
    kind: str, unknown: str | int, correct: bool
) -> None:
    desk = Desk(task="multiclass", label={"type": kind})

    await desk.hear(prediction(1, unknown))
    [letter] = await desk.hear(feedback(1, correct=correct))

    assert isinstance(letter, DeadLetter)
    assert "is no label of the loop" in letter.data.reason


async def test_the_class_itself_still_counts_where_the_prediction_named_none() -> None:
    said = await Desk(task="multiclass").outcomes(prediction(1, "<unknown>"), label(1, "cat"))

    assert [(o.data.label, o.data.prediction) for o in said] == [("cat", "<unknown>")]


async def test_wrong_says_nothing_of_a_number_and_is_parked() -> None:
    desk = Desk(task="regression", label={"within": "1h"})

    await desk.hear(prediction(1, 3.5))
    with pytest.raises(RecordRejected, match="label: is missing"):
        await desk.hear(feedback(1, correct=False))


async def test_a_label_later_than_the_loop_allows_is_parked_with_its_reason() -> None:
    desk = Desk()
    await desk.hear(prediction(1))

    [letter] = await desk.hear(label(1, after=3601))

    assert isinstance(letter, DeadLetter)
    assert letter.data.error == "LabelTooLate"
    assert letter.subject == "ingest.label_received.v1/0/0"


async def test_a_label_without_a_time_of_its_own_is_never_late() -> None:
    desk = Desk()
    await desk.hear(prediction(1))
    door = label(1, after=9999)

    said = await desk.hear(door.model_copy(update={"data": door.data.model_copy(update={"received": door.time})}))

    assert isinstance(said[0], OutcomeObserved)


async def test_the_entity_is_told_only_where_a_feature_asks() -> None:
    asked = Desk(features=[{"name": "last", "lag": "label"}])

    told = [await desk.hear(said) for desk in (asked, Desk()) for said in (prediction(1), label(1))]

    assert [[type(e) for e in events] for events in told] == [[], [OutcomeObserved, LabelJoined], [], [OutcomeObserved]]
    joined = told[1][1]
    assert isinstance(joined, LabelJoined)
    assert (joined.subject, joined.data.label, joined.data.observed) == ("ada", True, event(1).time)


async def test_a_record_that_was_applied_is_not_applied_again() -> None:
    desk = Desk()
    await desk.hear(prediction(1))
    await desk.hear(label(1, True), offset=7)
    await desk.hear(label(1, False, id="newer"), offset=8)

    replayed = [await desk.hear(label(1, True), offset=7), await desk.hear(label(1, False, id="newer"), offset=8)]

    assert replayed == [[], []]


async def test_a_label_that_waits_too_long_is_marked_first_and_leaves_in_the_sweep_after() -> None:
    desk = Desk()
    await desk.hear(label(1), time_ms=1000)

    nothing, [letter], gone = [await desk.sweep(t) for t in (3_601_000, 3_601_001, 3_601_002)]

    assert (nothing, gone) == ([], [])
    assert isinstance(letter, DeadLetter)
    assert letter.data.error == "PredictionNeverCame"


async def test_a_label_marked_as_overdue_never_joins_after_all() -> None:
    desk = Desk()
    await desk.hear(label(1), time_ms=1000)
    await desk.sweep(3_601_000)

    said = await desk.hear(prediction(1), time_ms=3_601_000)

    assert said == []
    [letter] = await desk.sweep(3_601_001)
    assert isinstance(letter, DeadLetter)


async def test_beyond_the_limit_the_oldest_that_settled_goes_first_and_at_once() -> None:
    desk = Desk()
    await desk.sweep(1)
    for n in range(3):
        await desk.hear(prediction(n), time_ms=n)
    await desk.hear(label(2))

    await desk.hear(prediction(3), time_ms=3)
    settled = desk.kept()
    await desk.hear(prediction(4), time_ms=4)

    assert settled == {"shop/e0", "shop/e1", "shop/e3"}
    assert desk.kept() == {"shop/e1", "shop/e3", "shop/e4"}


async def test_labels_of_unknown_ids_cost_no_prediction_its_outcome_and_leave_as_dead_letters() -> None:
    desk = Desk()
    await desk.sweep(1)
    for n in range(3):
        await desk.hear(prediction(n))

    for n in range(100, 150):
        await desk.hear(label(n))
    letters = await desk.sweep(2)
    said = [e for n in range(3) for e in await desk.hear(label(n))]

    assert [type(e) for e in said] == [OutcomeObserved] * 3
    assert [e.data.error for e in letters if isinstance(e, DeadLetter)] == ["LabelCrowdedOut"] * 47
    assert {"shop/e147", "shop/e148", "shop/e149"} < desk.kept()
    assert "room" in letters[0].data.reason


async def test_the_newest_labels_still_find_their_predictions_behind_a_flood() -> None:
    desk = Desk()
    await desk.sweep(1)
    for n in range(100, 150):
        await desk.hear(label(n))
    await desk.hear(label(1))

    said = await desk.hear(prediction(1))

    assert [type(e) for e in said] == [OutcomeObserved]


async def test_a_label_that_was_pushed_out_never_joins_after_all() -> None:
    desk = Desk()
    await desk.sweep(1)
    for n in range(4):
        await desk.hear(label(n))

    said = await desk.hear(prediction(0))
    letters = await desk.sweep(2)

    assert (said, [e.causationid for e in letters]) == ([], ["l0"])
    assert isinstance((await desk.hear(label(0, id="again")))[0], OutcomeObserved)


async def test_a_loop_parts_with_its_own_and_never_with_those_of_another() -> None:
    desk = Desk(most=10)
    await desk.sweep(1)
    for n in range(4):
        await desk.hear(prediction(n, loop="other"))
        await desk.hear(label(100 + n, loop="other"))

    for n in range(50):
        await desk.hear(prediction(n))
        await desk.hear(label(100 + n))

    assert {k for k in desk.kept() if k.startswith("other/")} == {
        f"other/e{n}" for n in (0, 1, 2, 3, 100, 101, 102, 103)
    }
    assert desk.handlers.predictions.count(0) == desk.handlers.strangers.count(0) == 10


async def test_bytes_count_and_not_entries() -> None:
    desk = Desk(most=1_000, most_bytes=100_000)
    await desk.sweep(1)

    for n in range(50):
        await desk.hear(feedback(n, f"f{n}", correct=True, comment="x" * 10_000))
        await desk.hear(prediction(100 + n, features={"text": "y" * 10_000}))

    assert desk.handlers.strangers.size(0) <= 100_000
    assert desk.handlers.predictions.size(0) <= 100_000
    assert desk.handlers.strangers.count(0) >= 9


async def test_what_waits_for_one_prediction_is_bounded_and_a_label_outlives_feedback() -> None:
    desk = Desk()
    await desk.sweep(1)
    await desk.hear(label(1))

    caused = [
        await desk.hear(feedback(1, f"f{i}", source=f"s{i}", correct=True, comment="x" * 10_000)) for i in range(30)
    ]
    letters = [e for events in caused for e in events if isinstance(e, DeadLetter)]
    said = await desk.hear(prediction(1))

    assert {e.data.error for e in letters} == {"LabelCrowdedOut"}
    assert len(letters) + len(said) == 31
    assert isinstance(said[0], OutcomeObserved)
    assert said[0].data.kind == "label"


async def test_before_anything_was_read_nothing_is_pushed_out() -> None:
    desk = Desk()

    for n in range(10):
        await desk.hear(prediction(n))

    assert len(desk.kept()) == 10


class BatchFailed(Exception):
    """What another record of a batch may do to it."""


async def _push_out(desk: Desk, fails: bool) -> None:
    async with desk.store:
        await desk.hear(prediction(3), time_ms=3, offset=3)
        await desk.hear(label(103), time_ms=3, offset=3)
        if fails:
            raise BatchFailed


async def test_a_batch_that_fails_pushes_nothing_out_and_leaves_nothing_behind() -> None:
    desk, letters = Desk(), list[Event]()
    async with desk.store:
        await desk.sweep(1)
        for n in range(3):
            await desk.hear(prediction(n), time_ms=n)
            await desk.hear(label(100 + n), time_ms=n)

    with pytest.raises(BatchFailed):
        await _push_out(desk, fails=True)
    await _push_out(desk, fails=False)
    for time_ms in (2, 3, 4):
        async with desk.store:
            letters += await desk.sweep(time_ms)

    kept = {key for _, key, _ in desk.store.items()}
    gone = {f"shop/{e.subject}" for n in range(4) for e in (prediction(n), label(100 + n))} - kept
    assert (len(kept), len(gone), len(letters)) == (6, 2, 1)
    assert {e.causationid for e in letters} == {f"l{key[-3:]}" for key in gone if len(key) == len("shop/e100")}
    assert desk.handlers.predictions.count(0) == desk.handlers.strangers.count(0) == 3


async def test_marks_and_what_is_kept_are_rebuilt_from_the_state() -> None:
    desk, other = Desk(), Desk()
    async with desk.store:
        await desk.sweep(1)
        for n in range(4):
            await desk.hear(label(n), time_ms=1000 + n)
            await desk.hear(prediction(100 + n), time_ms=1000 + n)
    other.store.data = desk.store.data

    other.handlers.restored(other.store.items())
    letters = await other.sweep(2_000)

    assert [e.causationid for e in letters] == ["l0"]
    assert other.handlers.predictions.count(0) == other.handlers.strangers.count(0) == 3


async def test_deadlines_are_rebuilt_from_the_state() -> None:
    desk, other = Desk(), Desk()
    await desk.hear(label(1), time_ms=1000)
    async with desk.store:
        await desk.hear(label(2), time_ms=1000)
    other.store.data = desk.store.data

    other.handlers.restored(other.store.items())
    await other.sweep(3_601_000)
    letters = await other.sweep(3_601_000)

    assert sorted(e.causationid or "" for e in letters) == ["l1", "l2"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=40), st.integers(0, 9))
def test_deadlines_give_out_what_is_due_in_order(adds: list[tuple[int, int]], now: int) -> None:
    deadlines, latest = Deadlines(100, 1_000), dict[str, int]()
    for key, due in adds:
        deadlines.keep(0, str(key), due, 1)
        latest[str(key)] = due

    due_now = deadlines.due(0, now, 100)

    assert sorted(due_now) == sorted(k for k, due in latest.items() if due <= now)
    assert [latest[k] for k in due_now] == sorted(latest[k] for k in due_now)
    assert deadlines.due(0, now, 100) == due_now


class Counted(Deadlines):
    """Checks its sums against a recount."""

    def recount(self) -> None:
        """Both sums, and the shares of the loops."""
        part = self._parts[0]
        assert part.size == sum(kept.size for kept in part.keys.values()) == sum(s.size for s in part.shares.values())
        assert {k for s in part.shares.values() for k in (*s.open, *s.settled)} == part.keys.keys()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(1, 9), st.booleans(), st.booleans())))
def test_within_its_limits_whatever_is_kept_and_discarded(steps: list[tuple[str, int, int, bool, bool]]) -> None:
    kept = Counted(4, 20)
    for loop, n, size, settled, gone in steps:
        if gone:
            kept.discard(0, f"{loop}/{n}")
        else:
            kept.keep(0, f"{loop}/{n}", n, size, settled)
        while (key := kept.excess(0)) is not None:
            kept.discard(0, key)
        kept.recount()

    assert kept.count(0) <= 4
    assert kept.size(0) <= 20


@given(st.permutations([label(1, True), feedback(1, id="f1", correct=False), label(1, False, id="l2"), prediction(1)]))
async def test_whatever_the_order_the_corrections_count_up_and_bytes_depend_on_words_only(said: Any) -> None:
    outcomes = await Desk().outcomes(*said)

    assert [o.data.correction for o in outcomes] == list(range(len(outcomes)))
    words = [s for s in said if isinstance(s, LabelReceived)]
    assert outcomes[-1].data.label is [w for w in words if w.data.kind == "label"][-1].data.label


def test_a_join_survives_its_value() -> None:
    words = [Waiting.of(feedback(1, f"f{i}", correct=True, comment="a\nb"), Position("t", 0, i, 7)) for i in range(3)]
    join = replace(
        Join(
            7, truth=Truth("cat"), corrections=2, words=("a",), voices=(("b", "c"),), as_of=5, by_label=True
        ).predicted(prediction(1)),
        waiting=tuple(words[:2]),
        overdue=tuple(words[2:]),
    )

    assert Join.load(join.dump()) == join
    assert Join.load(join.dump()).made == prediction(1)


def test_a_join_of_before_says_the_same() -> None:
    word, made = feedback(1, correct=True), prediction(1)
    value = [
        9,
        made.model_dump(mode="json"),
        [],
        [[word.model_dump(mode="json"), ["t", 0, 3, 4]]],
        ["cat", None],
        1,
        ["a"],
    ]

    join = Join.load(json.dumps(value).encode())

    assert (join.made, join.revision, join.truth, join.by_label) == (made, 1, Truth("cat"), True)
    assert [(w.label, w.at) for w in join.overdue] == [(word, Position("t", 0, 3, 4))]


def test_nothing_said_is_refused() -> None:
    with pytest.raises(ValueError, match="label"):
        resolve("binary", True, None, feedback(1))


async def test_a_label_that_says_what_feedback_said_is_an_outcome_of_its_own() -> None:
    said = await Desk().outcomes(prediction(1, True), feedback(1, correct=True, source="desk"), label(1, True))

    assert [(o.data.kind, o.data.label, o.data.correction) for o in said] == [("feedback", True, 0), ("label", True, 1)]
