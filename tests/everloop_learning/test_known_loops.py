"""Which loops a service knows, and what it answers for those that it does not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.builders import events
from tests.builders.loops import loop_spec, loop_state

from everloop_learning.errors import LoopNotFound, LoopNotKnownYet
from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event
from everloop_schemas.registry import LoopState
from everloop_shared.errors import Disposition

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def state(sequence: int, revision: int = 1, life: int = 1, deleted: bool = False) -> LoopState:
    return loop_state(loop_spec(loop="l"), revision=revision, sequence=sequence, deleted=deleted, life=life)


def received(revision: int) -> Event:
    return events.observation("1", loop="l", revision=revision)


def test_an_older_state_changes_nothing_even_after_a_deletion() -> None:
    loops = KnownLoops()

    assert [loops.apply(s) for s in (state(1), state(0), state(2, deleted=True), state(1))] == [
        True,
        False,
        True,
        False,
    ]
    assert (loops.get("l"), loops.is_deleted("l"), loops.all()) == (None, True, [])


def test_a_request_for_a_loop_that_was_never_applied_says_how_to_apply_it() -> None:
    with pytest.raises(LoopNotFound, match="there is no loop 'l'; apply it first: everloop apply -f FILE") as caught:
        KnownLoops().require("l")

    assert (caught.value.http_status, caught.value.disposition) == (404, Disposition.DEAD_LETTER)


def test_a_request_for_a_deleted_loop_says_where_its_history_is() -> None:
    loops = KnownLoops()
    loops.apply(state(1, deleted=True))

    with pytest.raises(LoopNotFound, match="was deleted; the registry's /v1/loops/l/history"):
        loops.require("l")


def test_a_name_in_an_error_has_a_bounded_length() -> None:
    assert len(LoopNotFound("x" * 10_000).detail) < 200
    assert len(LoopNotKnownYet("x" * 10_000).detail) < 200


def test_a_record_of_an_unknown_loop_is_retried_for_a_while() -> None:
    loops = KnownLoops()

    with pytest.raises(LoopNotKnownYet) as caught:
        loops.require_arrived("l")
    assert (caught.value.disposition, caught.value.give_up_after) == (Disposition.RETRY, 15.0)
    assert LoopNotKnownYet("l", 2, give_up_after=60.0).give_up_after == 60.0

    loops.apply(state(0))
    assert loops.require_arrived("l") == loops.require("l") == state(0)


def test_records_of_a_deleted_loop_and_of_earlier_lifetimes_are_past() -> None:
    loops = KnownLoops()
    loops.apply(state(1, revision=3, deleted=True))
    assert (loops.is_past(received(3)), loops.is_past(received(4)), loops.is_ahead(received(4))) == (True, False, True)

    loops.apply(state(2, revision=4, life=4))
    assert (loops.is_past(received(3)), loops.is_past(received(4)), loops.is_past(received(0))) == (True, False, False)
    assert (loops.is_ahead(received(4)), loops.is_ahead(received(5))) == (False, True)
