"""How joins expire and are evicted: what leaves first, and that nothing both leaves and joins."""

from __future__ import annotations

import pytest
from tests.feature.feature_events import label, prediction
from tests.feature.join_harness import JoinHarness, feedback

from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_shared.messaging.memory import MemoryBroker


async def test_a_label_that_waits_too_long_is_made_overdue_first_and_leaves_in_the_next_sweep() -> None:
    joins = JoinHarness()
    await joins.handle(label(1), time_ms=1000)

    nothing, [dead_letter], gone = [await joins.sweep(t) for t in (3_601_000, 3_601_001, 3_601_002)]

    assert (nothing, gone) == ([], [])
    assert isinstance(dead_letter, DeadLetter)
    assert dead_letter.data.error == "PredictionNeverCame"


async def test_an_overdue_label_never_joins_after_all() -> None:
    joins = JoinHarness()
    await joins.handle(label(1), time_ms=1000)
    await joins.sweep(3_601_000)

    events = await joins.handle(prediction(1), time_ms=3_601_000)

    assert events == []
    [dead_letter] = await joins.sweep(3_601_001)
    assert isinstance(dead_letter, DeadLetter)


async def test_beyond_the_limit_the_oldest_labelled_prediction_is_evicted_first_and_at_once() -> None:
    joins = JoinHarness()
    await joins.sweep(1)
    for n in range(3):
        await joins.handle(prediction(n), time_ms=n)
    await joins.handle(label(2))

    await joins.handle(prediction(3), time_ms=3)
    after_first = joins.stored()
    await joins.handle(prediction(4), time_ms=4)

    assert after_first == {"shop/e0", "shop/e1", "shop/e3"}
    assert joins.stored() == {"shop/e1", "shop/e3", "shop/e4"}


async def test_labels_of_unknown_ids_cost_no_prediction_its_outcome_and_become_dead_letters() -> None:
    joins = JoinHarness()
    await joins.sweep(1)
    for n in range(3):
        await joins.handle(prediction(n))

    for n in range(100, 150):
        await joins.handle(label(n))
    dead_letters = await joins.sweep(2)
    events = [e for n in range(3) for e in await joins.handle(label(n))]

    assert [type(e) for e in events] == [OutcomeObserved] * 3
    assert [e.data.error for e in dead_letters if isinstance(e, DeadLetter)] == ["LabelCrowdedOut"] * 47
    assert {"shop/e147", "shop/e148", "shop/e149"} < joins.stored()
    assert "room" in dead_letters[0].data.reason


async def test_the_newest_labels_still_find_their_predictions_behind_a_flood() -> None:
    joins = JoinHarness()
    await joins.sweep(1)
    for n in range(100, 150):
        await joins.handle(label(n))
    await joins.handle(label(1))

    events = await joins.handle(prediction(1))

    assert [type(e) for e in events] == [OutcomeObserved]


async def test_an_evicted_label_never_joins_after_all() -> None:
    joins = JoinHarness()
    await joins.sweep(1)
    for n in range(4):
        await joins.handle(label(n))

    events = await joins.handle(prediction(0))
    dead_letters = await joins.sweep(2)

    assert (events, [e.causationid for e in dead_letters]) == ([], ["l0"])
    assert isinstance((await joins.handle(label(0, id="again")))[0], OutcomeObserved)


async def test_a_loop_evicts_its_own_joins_and_never_those_of_another() -> None:
    joins = JoinHarness(max_joins=10)
    await joins.sweep(1)
    for n in range(4):
        await joins.handle(prediction(n, loop="other"))
        await joins.handle(label(100 + n, loop="other"))

    for n in range(50):
        await joins.handle(prediction(n))
        await joins.handle(label(100 + n))

    assert {k for k in joins.stored() if k.startswith("other/")} == {
        f"other/e{n}" for n in (0, 1, 2, 3, 100, 101, 102, 103)
    }
    assert joins.predictions().keys == joins.unmatched().keys == 10


async def test_bytes_count_and_not_entries() -> None:
    joins = JoinHarness(max_joins=1_000, max_bytes=100_000)
    await joins.sweep(1)

    for n in range(50):
        await joins.handle(feedback(n, f"f{n}", correct=True, comment="x" * 10_000))
        await joins.handle(prediction(100 + n, features={"text": "y" * 10_000}))

    assert joins.unmatched().size <= 100_000
    assert joins.predictions().size <= 100_000
    assert joins.unmatched().keys >= 9


async def test_labels_that_wait_for_one_prediction_are_bounded_and_feedback_is_evicted_first() -> None:
    joins = JoinHarness()
    await joins.sweep(1)
    await joins.handle(label(1))

    published_by_each = [
        await joins.handle(feedback(1, f"f{i}", source=f"s{i}", correct=True, comment="x" * 10_000)) for i in range(30)
    ]
    dead_letters = [e for events in published_by_each for e in events if isinstance(e, DeadLetter)]
    events = await joins.handle(prediction(1))

    assert {e.data.error for e in dead_letters} == {"LabelCrowdedOut"}
    assert len(dead_letters) + len(events) == 31
    assert isinstance(events[0], OutcomeObserved)
    assert events[0].data.kind == "label"


async def test_before_anything_was_read_nothing_is_evicted() -> None:
    joins = JoinHarness()

    for n in range(10):
        await joins.handle(prediction(n))

    assert len(joins.stored()) == 10


class BatchFailed(Exception):
    """What another record of a batch may do to it."""


async def _evict_by_two_records(joins: JoinHarness, fails: bool) -> None:
    async with joins.store:
        await joins.handle(prediction(3), time_ms=3, offset=3)
        await joins.handle(label(103), time_ms=3, offset=3)
        if fails:
            raise BatchFailed


async def test_a_batch_that_fails_evicts_nothing_and_leaves_nothing_behind() -> None:
    joins, dead_letters = JoinHarness(), list[Event]()
    async with joins.store:
        await joins.sweep(1)
        for n in range(3):
            await joins.handle(prediction(n), time_ms=n)
            await joins.handle(label(100 + n), time_ms=n)

    with pytest.raises(BatchFailed):
        await _evict_by_two_records(joins, fails=True)
    await _evict_by_two_records(joins, fails=False)
    for time_ms in (2, 3, 4):
        async with joins.store:
            dead_letters += await joins.sweep(time_ms)

    stored = {key for _, key, _ in joins.store.items()}
    gone = {f"shop/{e.subject}" for n in range(4) for e in (prediction(n), label(100 + n))} - stored
    assert (len(stored), len(gone), len(dead_letters)) == (6, 2, 1)
    assert {e.causationid for e in dead_letters} == {f"l{key[-3:]}" for key in gone if len(key) == len("shop/e100")}
    assert joins.predictions().keys == joins.unmatched().keys == 3


async def test_evictions_and_the_index_are_rebuilt_from_the_state() -> None:
    joins, other = JoinHarness(), JoinHarness()
    async with joins.store:
        await joins.sweep(1)
        for n in range(4):
            await joins.handle(label(n), time_ms=1000 + n)
            await joins.handle(prediction(100 + n), time_ms=1000 + n)
    other.store.attach(MemoryBroker(1).engine("feature"), joins.store.storage)

    other.handlers.restored()
    dead_letters = await other.sweep(2_000)

    assert [e.causationid for e in dead_letters] == ["l0"]
    assert other.predictions().keys == other.unmatched().keys == 3


async def test_expiry_is_rebuilt_from_the_state() -> None:
    joins, other = JoinHarness(), JoinHarness()
    await joins.handle(label(1), time_ms=1000)
    async with joins.store:
        await joins.handle(label(2), time_ms=1000)
    other.store.attach(MemoryBroker(1).engine("feature"), joins.store.storage)

    other.handlers.restored()
    await other.sweep(3_601_000)
    dead_letters = await other.sweep(3_601_000)

    assert sorted(e.causationid or "" for e in dead_letters) == ["l1", "l2"]
