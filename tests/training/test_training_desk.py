"""The worker's desk without a process: messages in, answers out, snapshots that may fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.training.training_world import outcomes, state, tools

from everloop_training.desk import Desk
from everloop_training.messages import (
    Done,
    Fill,
    Follow,
    Learn,
    Learned,
    Open,
    Opened,
    Snapshot,
    SnapshotWritten,
    Wanted,
)
from everloop_training.snapshots import Snapshots


def desk(folder: Path, every: int = 1000) -> Desk:
    return Desk(tools(), Snapshots(folder), every_outcomes=every, every_s=3600)


def say(room: Desk, *messages: Any) -> list[Any]:
    return [answer for message in messages for answer in room.handle(message)]


def learn(start: int, stop: int) -> Learn:
    return Learn(0, [("market", o) for o in outcomes(start, stop)])


def opening(end: int = 0) -> Open:
    return Open(0, end, (), ())


def counting(answers: list[Any]) -> None:
    for answer in answers:
        if isinstance(answer, SnapshotWritten):
            Path(answer.path).replace(answer.final)


def test_a_snapshot_comes_after_the_events_before_it_and_is_found_again(tmp_path: Path) -> None:
    answers = say(desk(tmp_path, every=100), Follow(state()), opening(), learn(0, 100))
    counting(answers)

    [opened, *_] = say(desk(tmp_path), Follow(state()), opening(end=100))

    kinds = [type(a) for a in answers]
    assert kinds.index(SnapshotWritten) > max(i for i, k in enumerate(kinds) if k is Learned)
    assert opened == Opened(0, 100)


def test_a_snapshot_that_never_counted_is_not_used(tmp_path: Path) -> None:
    say(desk(tmp_path, every=100), Follow(state()), opening(), learn(0, 100))

    [opened, *_] = say(desk(tmp_path), Follow(state()), opening(end=100))

    assert opened == Opened(0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_snapshot_is_as_good_as_none(tmp_path: Path) -> None:
    counting(say(desk(tmp_path, every=100), Follow(state()), opening(), learn(0, 100)))
    file = tmp_path / "partition-0.snapshot"
    file.write_bytes(file.read_bytes()[:-1] + b"x")

    [opened, *_] = say(desk(tmp_path), Follow(state()), opening(end=100))

    assert opened == Opened(0, 0)


def test_learning_goes_on_when_a_snapshot_cannot_be_written(tmp_path: Path) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("in the way")
    room = desk(not_a_folder, every=100)

    answers = say(room, Follow(state()), opening(), learn(0, 100), learn(100, 200), Snapshot())

    assert not [a for a in answers if isinstance(a, SnapshotWritten)]
    assert sum(a.outcomes for a in answers if isinstance(a, Learned)) == 200
    assert answers[-1] == Done()


def test_a_line_that_must_be_rebuilt_asks_for_history_piece_by_piece(tmp_path: Path) -> None:
    room = desk(tmp_path)
    say(room, Follow(state()), opening(), learn(0, 4000))
    learner = room._learners["market"]
    learner.roster.keep(set(), learner.state.data.spec)

    asked = [a for a in say(room, Follow(state(1, champion="logistic-regression-0@29"))) if isinstance(a, Wanted)]
    pieces = 0
    while asked:
        wanted = asked.pop()
        pieces += 1
        answers = say(room, Fill(wanted, outcomes(wanted.start, wanted.stop)))
        asked += [a for a in answers if isinstance(a, Wanted)]

    assert pieces == 2
    assert learner.roster.lines["logistic-regression-0"].outcomes == 4000
