"""Records that the outcome log holds twice: feature said them again after a crash, and they are learned once."""

from __future__ import annotations

import pickle

from tests.training.training_world import learner, losses, outcomes, state, tools

from everloop_training.domain.learner import LoopLearner
from everloop_training.domain.outcome import Outcome
from everloop_training.domain.repeats import OFFSETS_KEPT, REMEMBERED, Repeats


def log_with_repeats(stop: int) -> list[Outcome]:
    """Outcomes 40 to 49 lie on the log a second time, at offsets 50 to 59."""
    again = [o._replace(offset=o.offset + 10) for o in outcomes(40, 50)]
    return [*outcomes(0, 50), *again, *outcomes(60, stop)]


def fed(room: LoopLearner, log: list[Outcome]) -> LoopLearner:
    for outcome in log:
        room.learn(outcome)
    return room


def test_an_outcome_that_lies_on_the_log_twice_is_learned_once() -> None:
    room = fed(learner(), log_with_repeats(100))

    told = losses(room.take())["logistic-regression-0"]

    assert set(told) == {*range(50), *range(60, 100)}
    assert room.outcomes == 90
    assert room.triggers.labels == 90
    assert room.position == 99


def test_a_line_rebuilt_from_history_leaves_out_the_same_records() -> None:
    untouched, room = fed(learner(), log_with_repeats(5000)), fed(learner(), log_with_repeats(2000))
    room.roster.keep(set(), room.state.data.spec)
    fed(room, outcomes(2000, 4000))

    room.follow(state(1, champion="logistic-regression-0@29"))
    while gaps := room.gaps():
        room.fill(gaps[0], [o for o in log_with_repeats(5000) if gaps[0].start <= o.offset < gaps[0].stop])
    fed(room, outcomes(4000, 5000))

    line, kept = (r.roster.lines["logistic-regression-0"] for r in (room, untouched))
    assert (line.outcomes, pickle.dumps(line.model)) == (kept.outcomes, pickle.dumps(kept.model))


def test_a_snapshot_between_an_outcome_and_its_repetition_remembers() -> None:
    log = log_with_repeats(70)
    room = pickle.loads(pickle.dumps(fed(learner(), log[:53])))
    room.restored(tools())

    fed(room, log[53:])

    assert room.outcomes == 60


def test_what_is_remembered_of_ids_is_bounded() -> None:
    repeats = Repeats()
    for outcome in outcomes(0, 3):
        assert not repeats.again(outcome)
    for i in range(REMEMBERED):
        repeats.again(outcomes(3, 4)[0]._replace(offset=i + 3, id=f"other-{i}"))

    assert not repeats.again(outcomes(0, 1)[0]._replace(offset=REMEMBERED + 3))


def test_what_is_kept_of_repetitions_is_bounded() -> None:
    repeats, [outcome] = Repeats(), outcomes(0, 1)
    for offset in range(OFFSETS_KEPT + 10):
        repeats.again(outcome._replace(offset=offset))

    assert (len(repeats.offsets), min(repeats.offsets)) == (OFFSETS_KEPT, 10)
