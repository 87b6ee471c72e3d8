"""The stored form of joins, and the index of what expires and is evicted."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from tests.feature.feature_events import prediction
from tests.feature.join_harness import feedback

from everloop_feature.domain.join import Join, Truth, WaitingLabel
from everloop_feature.domain.join_index import JoinIndex
from everloop_shared.messaging.routes import Position


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=40), st.integers(0, 9))
def test_the_index_gives_what_expired_in_order(adds: list[tuple[int, int]], now: int) -> None:
    index, latest = JoinIndex(100, 1_000), dict[str, int]()
    for key, due in adds:
        index.put(0, str(key), due, 1)
        latest[str(key)] = due

    expired = index.expired(0, now, 100)

    assert sorted(expired) == sorted(k for k, due in latest.items() if due <= now)
    assert [latest[k] for k in expired] == sorted(latest[k] for k in expired)
    assert index.expired(0, now, 100) == expired


class CountedIndex(JoinIndex):
    """Checks its sums against a recount."""

    def recount(self) -> None:
        """Both sums, and the shares of the loops."""
        index = self._partitions[0]
        shares = index.shares.values()
        assert index.size == sum(join.size for join in index.joins.values()) == sum(s.size for s in shares)
        assert {k for s in shares for k in (*s.open, *s.labelled)} == index.joins.keys()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(1, 9), st.booleans(), st.booleans())))
def test_the_index_stays_within_its_limits_whatever_is_put_and_discarded(
    steps: list[tuple[str, int, int, bool, bool]],
) -> None:
    index = CountedIndex(4, 20)
    for loop, n, size, labelled, gone in steps:
        if gone:
            index.discard(0, f"{loop}/{n}")
        else:
            index.put(0, f"{loop}/{n}", n, size, labelled)
        while (key := index.next_eviction(0)) is not None:
            index.discard(0, key)
        index.recount()

    assert index.count(0) <= 4
    assert index.bytes(0) <= 20


def test_a_join_is_loaded_as_it_was_dumped() -> None:
    waiting = [
        WaitingLabel.of(feedback(1, f"f{i}", correct=True, comment="a\nb"), Position("t", 0, i, 7)) for i in range(3)
    ]
    without_prediction = Join(
        7,
        truth=Truth("cat"),
        corrections=2,
        applied_ids=("a",),
        feedback=(("b", "c"),),
        truth_time_us=5,
        truth_is_label=True,
    )
    join = without_prediction.add_prediction(prediction(1))._replace(
        waiting=tuple(waiting[:2]), overdue=tuple(waiting[2:])
    )

    assert Join.load(join.dump()) == join
    assert Join.load(join.dump()).decode_prediction() == prediction(1)


def test_a_join_in_the_form_of_the_first_releases_is_still_read() -> None:
    opinion, made = feedback(1, correct=True), prediction(1)
    value = [
        9,
        json.loads(made.encode()),
        [],
        [[json.loads(opinion.encode()), ["t", 0, 3, 4]]],
        ["cat", None],
        1,
        ["a"],
    ]

    join = Join.load(json.dumps(value).encode())

    assert (join.decode_prediction(), join.revision, join.truth, join.truth_is_label) == (made, 1, Truth("cat"), True)
    assert [(w.decode(), w.at) for w in join.overdue] == [(opinion, Position("t", 0, 3, 4))]
