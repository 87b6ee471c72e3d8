"""The rules of backup and restore that need no broker: lines, digests, where to cut, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders.loops import NOW
from tests.builders.signing import trusting
from typer.testing import CliRunner

from everloop.backup import manifest, restore
from everloop.backup.cut import EFFECTS_FIRST, FOREVER_TOPICS, Ends, cut, loop_without_state
from everloop.backup.errors import BackupDamaged, BackupExists, BackupUntrusted, NotEmpty, RestoreFailed
from everloop.backup.manifest import BackupFile, BackupManifest
from everloop.backup.progress import BackupProgress
from everloop.backup.records import GAP, BackupRecord, LogDigest, StateDigest
from everloop.backup.save import check_target, is_collectable
from everloop.cli import build
from everloop_schemas.envelope import Topic
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.registry import Decided
from everloop_schemas.search import SearchFinished, SearchRequested
from everloop_schemas.training import ChallengeUpdated, RunRequested
from everloop_shared.signing.keys import SigningKey
from everloop_shared.signing.trust import TrustStore

RAW = st.none() | st.binary(max_size=40) | st.text(max_size=20).map(str.encode)
RECORDS = st.builds(
    BackupRecord,
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    RAW,
    RAW,
    st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=2),
)


def record(offset: int, key: str, value: str | None) -> BackupRecord:
    """A record with a text."""
    return BackupRecord(offset, 0, key.encode(), value.encode() if value is not None else None)


@given(RECORDS)
def test_a_line_keeps_every_byte_of_a_record_and_is_one_line(given_record: BackupRecord) -> None:
    line = given_record.line()

    assert BackupRecord.of_line(line) == given_record
    assert line.count(b"\n") == 1


def test_people_can_read_the_lines() -> None:
    line = record(3, "market", '{"id":"é"}').line()

    assert json.loads(line) == {"offset": 3, "time": 0, "key": "market", "value": '{"id":"é"}'}


def test_a_digest_of_a_log_sees_every_offset_and_no_filler() -> None:
    digests = []
    for records in (
        [record(0, "a", "1"), record(2, "a", "2")],
        [record(0, "a", "1"), BackupRecord(1, 0, GAP, None), record(2, "a", "2")],
        [record(0, "a", "1"), record(1, "a", "2")],
        [record(0, "a", "1"), record(2, "a1", "2")],
        [record(0, "a", "1"), record(2, "a", None)],
    ):
        digests.append(LogDigest())
        for each in records:
            digests[-1].add(each)

    first, filled, *others = (d.hex() for d in digests)
    assert first == filled
    assert len({first, *others}) == 4


def test_a_digest_of_a_compacted_log_is_that_of_the_last_words() -> None:
    long, short, other = StateDigest(), StateDigest(), StateDigest()
    for each in (
        record(0, "a", "1"),
        record(1, "b", "1"),
        record(2, "c", "1"),
        record(3, "a", "2"),
        record(4, "c", None),
    ):
        long.add(each)
    for each in (record(9, "a", "2"), record(7, "b", "1")):
        short.add(each)
    other.add(record(0, "a", "2"))

    assert long.hex() == short.hex() != other.hex()


def test_everything_that_is_kept_forever_is_in_a_backup_effects_before_causes() -> None:
    names = [topic.name for topic in EFFECTS_FIRST]

    assert sorted(names) == sorted(topic.name for topic in FOREVER_TOPICS)
    assert names.index(Decided.topic.name) < names.index(ChallengeUpdated.topic.name)
    assert names.index(ChallengeUpdated.topic.name) < names.index(OutcomeObserved.topic.name)
    assert names.index(SearchFinished.topic.name) < names.index(RunRequested.topic.name)
    assert names.index(RunRequested.topic.name) < names.index(SearchRequested.topic.name)


async def test_the_ends_are_asked_for_again_while_decisions_are_made() -> None:
    decisions, asked = iter([1, 2, 2, 2]), list[str]()

    async def ends_of(topics: Sequence[Topic]) -> Ends:
        asked.extend(topic.name for topic in topics)
        if topics[0] == Decided.topic:
            return {(Decided.topic.name, 0): next(decisions)}
        return {(topics[0].name, 0): len(asked)}

    made = await cut(ends_of, EFFECTS_FIRST)

    assert made.settled
    assert made.ends[Decided.topic.name, 0] == 2
    assert asked.count(OutcomeObserved.topic.name) == 2
    assert asked[-3] == EFFECTS_FIRST[-1].name


@pytest.mark.parametrize(
    ("decided", "states", "loop"),
    [({"a": 3, "b": 0}, {"a": 3, "b": 0}, None), ({"a": 3}, {"a": 2}, "a"), ({"a": 0}, {}, "a"), ({}, {}, None)],
)
def test_a_cut_between_a_decision_and_its_state_is_noticed(
    decided: dict[str, int], states: dict[str, int], loop: str | None
) -> None:
    assert loop_without_state(decided, states) == loop


def made(folder: Path, partitions: int = 4) -> BackupManifest:
    """A small backup: one snapshot."""
    (folder / "snapshots").mkdir(parents=True)
    (folder / "snapshots/partition-0.snapshot").write_bytes(b"learned")
    snapshots = [BackupFile.of(folder, "snapshots/partition-0.snapshot")]
    whole = BackupManifest(
        made=datetime(2026, 1, 1, tzinfo=UTC),
        topic_prefix="",
        partitions=partitions,
        topics=[],
        artifacts=[],
        snapshots=snapshots,
    )
    (folder / manifest.FILE).write_text(whole.model_dump_json())
    return whole


def test_a_backup_that_is_whole_is_accepted(tmp_path: Path) -> None:
    whole = made(tmp_path)

    assert restore.check_backup(tmp_path, 4, BackupProgress()) == whole


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone", "no manifest", "torn manifest"])
def test_a_damaged_backup_is_refused_by_the_file(tmp_path: Path, damage: str) -> None:
    made(tmp_path)
    snapshot, listed = tmp_path / "snapshots/partition-0.snapshot", tmp_path / manifest.FILE
    match damage:
        case "changed":
            snapshot.write_bytes(b"Learned")
        case "shorter":
            snapshot.write_bytes(b"learn")
        case "gone":
            snapshot.unlink()
        case "no manifest":
            listed.unlink()
        case _:
            listed.write_text(listed.read_text()[:-9])

    with pytest.raises(BackupDamaged, match="manifest" if "manifest" in damage else "partition-0.snapshot"):
        restore.check_backup(tmp_path, 4, BackupProgress())


def test_a_backup_of_another_number_of_partitions_is_refused_with_the_fix(tmp_path: Path) -> None:
    made(tmp_path, partitions=8)

    with pytest.raises(RestoreFailed, match="Set EVERLOOP_PARTITIONS=8"):
        restore.check_backup(tmp_path, 4, BackupProgress())


def test_only_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    restore.check_folder(tmp_path)
    restore.check_folder(tmp_path / "absent")
    (tmp_path / "artifacts").mkdir()

    with pytest.raises(NotEmpty, match="it holds artifacts"):
        restore.check_folder(tmp_path)


def test_a_backup_never_goes_over_something(tmp_path: Path) -> None:
    check_target(tmp_path)
    check_target(tmp_path / "absent")
    (tmp_path / "file").touch()

    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(BackupExists):
            check_target(taken)


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_the_command_says_what_is_wrong_and_ends_with_1(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVERLOOP_KAFKA_BOOTSTRAP", raising=False)
    (tmp_path / "something").touch()

    done = CliRunner().invoke(build(), [command, str(tmp_path), "--data", str(tmp_path / "installation")])

    assert done.exit_code == 1
    assert ("is not empty" if command == "backup" else "is no backup") in done.output
    assert not (tmp_path / "installation").exists()


def test_an_artifact_that_was_collected_is_not_missing_from_a_backup() -> None:
    states: dict[str, dict[str, object]] = {"market": {"kept": ["a-0@200"], "judged": 300}, "gone": {"deleted": True}}

    def of(loop: str, offset: int) -> bool:
        return is_collectable(f"models/{loop}/a-0@{offset}-0123456789abcdef.pkl", states)

    assert [of("market", offset) for offset in (100, 200, 300, 400)] == [True, False, False, False]
    assert (of("gone", 900), of("unknown", 1)) == (True, False)


def test_a_backup_is_believed_where_a_trusted_key_has_signed_its_manifest(tmp_path: Path) -> None:
    key, folder = SigningKey.create(), tmp_path / "backup"
    folder.mkdir()
    made(folder)
    trust = trusting(tmp_path / "trusted.json", {key: ["backups"]})
    unsigned = _why_refused(folder, trust)

    manifest.sign(folder, SigningKey.create(), NOW)
    foreign = _why_refused(folder, trust)
    manifest.sign(folder, key, NOW)
    believed = manifest.read(folder, trust)
    (folder / manifest.FILE).write_bytes((folder / manifest.FILE).read_bytes() + b" ")
    changed = _why_refused(folder, trust)
    (folder / manifest.SIGNATURE).write_bytes(b"{}")

    assert believed.partitions == manifest.read(folder).partitions
    assert "is not signed" in unsigned
    assert "not among the trusted" in foreign
    assert "not about this manifest.json" in changed
    assert "no DSSE envelope" in _why_refused(folder, trust)


def _why_refused(folder: Path, trust: TrustStore) -> str:
    with pytest.raises(BackupUntrusted) as refused:
        manifest.read(folder, trust)
    return refused.value.what
