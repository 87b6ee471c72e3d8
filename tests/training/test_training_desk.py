"""The worker's desk without a process: messages in, answers out, snapshots that may fail."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.training.snapshot_survey import survey
from tests.training.training_world import alert, outcomes, state, tools

from everloop_models.allow_list import format_uses
from everloop_schemas.training import RunRequested
from everloop_training.desk import Desk
from everloop_training.messages import (
    Answer,
    Done,
    Fill,
    Follow,
    Learn,
    Learned,
    OnDrift,
    Open,
    Opened,
    Snapshot,
    SnapshotWritten,
    Wanted,
)
from everloop_training.snapshots import FILE, PartitionState, Snapshots


def desk(folder: Path, every: int = 1000) -> Desk:
    return Desk(tools(), Snapshots(folder), every_outcomes=every, every_s=3600)


def say(room: Desk, *messages: Any) -> list[Any]:
    return [answer for message in messages for answer in room.handle(message)]


def learn(start: int, stop: int) -> Learn:
    return Learn(0, [("market", o) for o in outcomes(start, stop)])


def opening(end: int = 0) -> Open:
    return Open(0, end, 9, (), ())


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
    assert opened == Opened(0, 100, 0)


def test_a_snapshot_that_never_counted_is_not_used(tmp_path: Path) -> None:
    say(desk(tmp_path, every=100), Follow(state()), opening(), learn(0, 100))

    [opened, *_] = say(desk(tmp_path), Follow(state()), opening(end=100))

    assert opened == Opened(0, 0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_snapshot_is_as_good_as_none(tmp_path: Path) -> None:
    counting(say(desk(tmp_path, every=100), Follow(state()), opening(), learn(0, 100)))
    file = tmp_path / "partition-0.snapshot"
    file.write_bytes(file.read_bytes()[:-1] + b"x")

    [opened, *_] = say(desk(tmp_path), Follow(state()), opening(end=100))

    assert opened == Opened(0, 0, 0)


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


def test_a_partition_that_comes_back_brings_the_runs_that_were_asked_for_elsewhere(tmp_path: Path) -> None:
    """A replica that had the partition before is behind, and has not heard of the alerts in between."""
    here, there = desk(tmp_path / "here"), desk(tmp_path / "there")
    say(here, Follow(state()), opening(), learn(0, 300))
    say(there, Follow(state()), opening(), learn(0, 700))
    asked = answered(say(there, OnDrift(1, 0, 0, alert(650, 601))))
    say(there, learn(700, 900))

    say(here, Open(0, 900, 1, (asked,), ()), learn(300, 900))

    assert answered(say(here, OnDrift(2, 0, 0, alert(650, 601)))) == asked
    assert here._learners["market"].fresh == there._learners["market"].fresh == asked.data.line


def test_alerts_go_on_after_those_that_the_snapshot_reflects(tmp_path: Path) -> None:
    room = desk(tmp_path)
    say(room, Follow(state()), opening(), learn(0, 700), OnDrift(1, 0, 4, alert(650, 601)))
    counting(say(room, Snapshot()))

    [opened, *_] = say(desk(tmp_path), Follow(state()), opening(end=700))
    [on_an_empty_topic, *_] = say(desk(tmp_path), Follow(state()), Open(0, 700, 0, (), ()))

    assert opened == Opened(0, 700, 5)
    assert on_an_empty_topic == Opened(0, 700, 0)


def answered(answers: list[Any]) -> RunRequested:
    [request] = [a.request for a in answers if isinstance(a, Answer)]
    assert request is not None
    return request


def test_the_list_is_what_snapshots_are_made_of() -> None:
    fresh = format_uses(survey())

    assert fresh == FILE.read_text(), "python -m tests.training.snapshot_survey writes it anew"


@pytest.mark.parametrize("module", ["numpy.testing._private.utils", "everloop_training.worker", "pydantic.main", "os"])
def test_a_snapshot_that_would_run_something_is_not_used(tmp_path: Path, module: str) -> None:
    marker = tmp_path / "marker"
    texts = [b"\x8c%c" % len(t) + t for t in (module.encode(), b"runstring", f"open({str(marker)!r}, 'w')".encode())]
    body = b"\x80\x05" + texts[0] + texts[1] + b"\x93(" + texts[2] + b"}tR."
    (tmp_path / "partition-0.snapshot").write_bytes(sha256(body).hexdigest().encode() + b"\n" + body)

    found = Snapshots(tmp_path).load(0, 100)

    assert found == PartitionState(0, 0, {})
    assert not marker.exists()
