"""The worker's dispatcher without a process: messages in, answers out, snapshots that may fail."""

from __future__ import annotations

import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from tests.builders.signing import trusting
from tests.training.snapshot_survey import survey
from tests.training.training_harness import alert, dependencies, losses, outcomes, state

from everloop_models.allow_list import format_uses
from everloop_schemas.training import RunRequested
from everloop_shared.signing.keys import SigningKey
from everloop_training.worker.dispatcher import WorkerDispatcher
from everloop_training.worker.learners.loop_learner import LoopLearner
from everloop_training.worker.protocol.messages import (
    AllSnapshotsWritten,
    ApplyLoopState,
    EventsProduced,
    HistoryNeeded,
    LearnHistory,
    LearnOutcomes,
    OpenPartition,
    OutcomesProcessed,
    PartitionOpened,
    RequestDriftRun,
    RunReplied,
    SnapshotWritten,
    WriteSnapshots,
)
from everloop_training.worker.snapshots import FILE, FORMAT, PartitionState, Snapshots, pack

REVOKED = {"revoked": "1970-01-01T00:00:00Z"}


def dispatcher(folder: Path, every: int = 1000) -> WorkerDispatcher:
    return WorkerDispatcher(dependencies(), Snapshots(folder), snapshot_outcomes=every, snapshot_seconds=3600)


def send(to: WorkerDispatcher, *messages: Any) -> list[Any]:
    return [answer for message in messages for answer in to.handle(message)]


def learn(start: int, stop: int) -> LearnOutcomes:
    return LearnOutcomes(0, [("market", o) for o in outcomes(start, stop)])


def open_partition(end: int = 0) -> OpenPartition:
    return OpenPartition(0, end, 9, (), ())


def put_snapshots_in_place(answers: list[Any]) -> None:
    for answer in answers:
        if isinstance(answer, SnapshotWritten):
            Path(answer.path).replace(answer.final)


def test_a_snapshot_comes_after_the_events_before_it_and_is_found_again(tmp_path: Path) -> None:
    answers = send(dispatcher(tmp_path, every=100), ApplyLoopState(state()), open_partition(), learn(0, 100))
    put_snapshots_in_place(answers)

    [opened, *_] = send(dispatcher(tmp_path), ApplyLoopState(state()), open_partition(end=100))

    kinds = [type(a) for a in answers]
    assert kinds.index(SnapshotWritten) > max(i for i, k in enumerate(kinds) if k is EventsProduced)
    assert opened == PartitionOpened(0, 100, 0)


def test_a_snapshot_that_never_counted_is_not_used(tmp_path: Path) -> None:
    send(dispatcher(tmp_path, every=100), ApplyLoopState(state()), open_partition(), learn(0, 100))

    [opened, *_] = send(dispatcher(tmp_path), ApplyLoopState(state()), open_partition(end=100))

    assert opened == PartitionOpened(0, 0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_snapshot_is_not_used(tmp_path: Path) -> None:
    put_snapshots_in_place(
        send(dispatcher(tmp_path, every=100), ApplyLoopState(state()), open_partition(), learn(0, 100))
    )
    file = tmp_path / "partition-0.snapshot"
    file.write_bytes(file.read_bytes()[:-1] + b"x")

    [opened, *_] = send(dispatcher(tmp_path), ApplyLoopState(state()), open_partition(end=100))

    assert opened == PartitionOpened(0, 0, 0)


def old_classes(patch: pytest.MonkeyPatch) -> bytes:
    """A snapshot of an older release, whose classes were in modules that are gone."""
    name = "everloop_training.domain.learner"
    module, learner = ModuleType(name), type("LoopLearner", (), {"__module__": name})
    vars(module)["LoopLearner"] = learner
    patch.setitem(sys.modules, name, module)
    return pack(PartitionState(100, 0, {"market": cast(LoopLearner, learner())}))


def old_format(patch: pytest.MonkeyPatch) -> bytes:
    """A snapshot of the present classes, written when they held something else."""
    patch.setattr("everloop_training.worker.snapshots.FORMAT", FORMAT - 1)
    return present_format(patch)


def present_format(_: pytest.MonkeyPatch) -> bytes:
    """A snapshot that can be used."""
    return pack(PartitionState(100, 0, {}))


@pytest.mark.parametrize(("written_by", "next_offset"), [(old_classes, 0), (old_format, 0), (present_format, 100)])
def test_a_snapshot_of_an_older_release_is_refused_and_the_log_is_learned_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written_by: Callable[[pytest.MonkeyPatch], bytes],
    next_offset: int,
) -> None:
    with monkeypatch.context() as patch:
        body = written_by(patch)
    (tmp_path / "partition-0.snapshot").write_bytes(sha256(body).hexdigest().encode() + b"\n" + body)
    worker = dispatcher(tmp_path)

    [opened, *_] = send(worker, ApplyLoopState(state()), open_partition(end=100))
    published = [e for a in send(worker, learn(0, 200)) if isinstance(a, EventsProduced) for e in a.events]

    assert opened == PartitionOpened(0, next_offset, 0)
    assert sorted(losses(published)[f"logistic-regression-{next_offset}"]) == list(range(next_offset, 200))


def test_learning_goes_on_when_a_snapshot_cannot_be_written(tmp_path: Path) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("in the way")
    worker = dispatcher(not_a_folder, every=100)

    answers = send(worker, ApplyLoopState(state()), open_partition(), learn(0, 100), learn(100, 200), WriteSnapshots())

    assert not [a for a in answers if isinstance(a, SnapshotWritten)]
    assert sum(a.outcomes for a in answers if isinstance(a, OutcomesProcessed)) == 200
    assert answers[-1] == AllSnapshotsWritten()


def test_a_line_that_must_be_rebuilt_requests_history_in_pieces(tmp_path: Path) -> None:
    worker = dispatcher(tmp_path)
    send(worker, ApplyLoopState(state()), open_partition(), learn(0, 4000))
    learner = worker.find("market")
    assert learner is not None
    learner.lines.retain(set(), learner.state.data.spec)

    requested = [
        a
        for a in send(worker, ApplyLoopState(state(1, champion="logistic-regression-0@29")))
        if isinstance(a, HistoryNeeded)
    ]
    pieces = 0
    while requested:
        needed = requested.pop()
        pieces += 1
        answers = send(worker, LearnHistory(needed, outcomes(needed.start, needed.stop)))
        requested += [a for a in answers if isinstance(a, HistoryNeeded)]

    assert pieces == 2
    assert learner.lines.learning["logistic-regression-0"].outcomes == 4000


def test_a_partition_that_comes_back_brings_the_runs_that_were_requested_elsewhere(tmp_path: Path) -> None:
    """A replica that had the partition before is behind, and has not consumed the alerts in between."""
    here, there = dispatcher(tmp_path / "here"), dispatcher(tmp_path / "there")
    send(here, ApplyLoopState(state()), open_partition(), learn(0, 300))
    send(there, ApplyLoopState(state()), open_partition(), learn(0, 700))
    requested = run_in(send(there, RequestDriftRun(1, 0, 0, alert(650, 601))))
    send(there, learn(700, 900))

    send(here, OpenPartition(0, 900, 1, (requested,), ()), learn(300, 900))

    assert run_in(send(here, RequestDriftRun(2, 0, 0, alert(650, 601)))) == requested
    assert fresh_line(here) == fresh_line(there) == requested.data.line


def test_alerts_go_on_after_those_that_the_snapshot_reflects(tmp_path: Path) -> None:
    worker = dispatcher(tmp_path)
    send(worker, ApplyLoopState(state()), open_partition(), learn(0, 700), RequestDriftRun(1, 0, 4, alert(650, 601)))
    put_snapshots_in_place(send(worker, WriteSnapshots()))

    [opened, *_] = send(dispatcher(tmp_path), ApplyLoopState(state()), open_partition(end=700))
    [on_an_empty_topic, *_] = send(dispatcher(tmp_path), ApplyLoopState(state()), OpenPartition(0, 700, 0, (), ()))

    assert opened == PartitionOpened(0, 700, 5)
    assert on_an_empty_topic == PartitionOpened(0, 700, 0)


def fresh_line(worker: WorkerDispatcher) -> str:
    learner = worker.find("market")
    assert learner is not None
    return learner.lines.fresh


def run_in(answers: list[Any]) -> RunRequested:
    [request] = [a.reply.run for a in answers if isinstance(a, RunReplied)]
    assert request is not None
    return request


def test_the_list_of_allowed_classes_is_what_snapshots_hold() -> None:
    fresh = format_uses(survey())

    assert fresh == FILE.read_text(), "python -m tests.training.snapshot_survey writes it anew"


@pytest.mark.parametrize(
    "module", ["numpy.testing._private.utils", "everloop_training.worker.main", "pydantic.main", "os"]
)
def test_a_snapshot_that_would_run_something_is_not_used(tmp_path: Path, module: str) -> None:
    marker = tmp_path / "marker"
    texts = [b"\x8c%c" % len(t) + t for t in (module.encode(), b"runstring", f"open({str(marker)!r}, 'w')".encode())]
    body = b"\x80\x05" + texts[0] + texts[1] + b"\x93(" + texts[2] + b"}tR."
    (tmp_path / "partition-0.snapshot").write_bytes(sha256(body).hexdigest().encode() + b"\n" + body)

    found = Snapshots(tmp_path).load(0, 100)

    assert found == PartitionState(0, 0, {})
    assert not marker.exists()


@pytest.mark.parametrize("change", ["nothing", "unsigned", "another key", "a byte", "another partition", "revoked"])
def test_only_a_snapshot_that_a_trusted_key_has_signed_is_unpickled(tmp_path: Path, change: str) -> None:
    key, partition = SigningKey.create(), 1 if change == "another partition" else 0
    signer = {"unsigned": None, "another key": SigningKey.create()}.get(change, key)
    trust = trusting(tmp_path / "trusted.json", {key: ["snapshots"]}, **REVOKED if change == "revoked" else {})
    writer = WorkerDispatcher(dependencies(), Snapshots(tmp_path, signer), snapshot_outcomes=100, snapshot_seconds=3600)
    put_snapshots_in_place(send(writer, ApplyLoopState(state()), open_partition(), learn(0, 100)))
    reader = Snapshots(tmp_path, key, trust)
    file = reader.final(0).rename(reader.final(partition))
    if change == "a byte":
        file.write_bytes(file.read_bytes()[:-1] + b"!")

    found = reader.load(partition, 100)

    assert list(found.learners) == (["market"] if change == "nothing" else [])
    assert list(Snapshots(tmp_path).load(partition, 100).learners) == ([] if change == "a byte" else ["market"])
