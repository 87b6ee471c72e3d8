"""A backup comes from elsewhere: its places, sizes and records are not believed, and a refusal writes nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from everloop.backup import manifest, restore
from everloop.backup.errors import BackupDamaged, RestoreFailed
from everloop.backup.manifest import BackupArtifact, BackupFile, BackupManifest, PartitionLog, TopicLog
from everloop.backup.progress import BackupProgress
from everloop.backup.records import BackupRecord, digest
from everloop.backup.save import Backup, artifacts_named
from everloop.backup.settings import BackupSettings
from everloop.cli import build
from everloop_models.store import ArtifactStore
from everloop_schemas.registry import Decided
from everloop_schemas.training import ModelTrained, RunFinished

TOPIC = ModelTrained.topic.name
BYTES = b"a model"
NAME = ArtifactStore.name("market", "a-0@10", sha256(BYTES).hexdigest())
RECORDS = [BackupRecord(3, 1, b"market", b"{}"), BackupRecord(5, 2, b"market", b"{}")]


def made(folder: Path) -> dict[str, Any]:
    """A small backup that is whole; its manifest, to be changed."""
    for path, data in ((f"artifacts/{NAME}", BYTES), ("snapshots/partition-0.snapshot", b"learned")):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(data)
    whole = BackupManifest(
        made=datetime(2026, 1, 1, tzinfo=UTC),
        topic_prefix="",
        partitions=1,
        topics=[TopicLog(name=TOPIC, compacted=False, partitions=[log(folder, RECORDS)])],
        artifacts=[BackupArtifact(name=NAME, file=BackupFile.of(folder, f"artifacts/{NAME}"))],
        snapshots=[BackupFile.of(folder, "snapshots/partition-0.snapshot")],
    )
    found: dict[str, Any] = json.loads(whole.model_dump_json())
    return found


def log(folder: Path, records: list[BackupRecord], raw: bytes | None = None, **parts: Any) -> PartitionLog:
    """The file of a partition with these records, or with other bytes in it."""
    path, saved = f"topics/{TOPIC}/0.jsonl.gz", digest(False)
    for record in records:
        saved.add(record)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(gzip.compress(b"".join(r.line() for r in records) if raw is None else raw))
    values = {"file": BackupFile.of(folder, path), "start": 3, "end": 6, "records": len(records), "digest": saved.hex()}
    return PartitionLog.model_validate({**values, **parts})


def refused(folder: Path, content: dict[str, Any]) -> str:
    """Why the backup is not accepted."""
    (folder / manifest.FILE).write_text(json.dumps(content))
    with pytest.raises((BackupDamaged, RestoreFailed)) as error:
        restore.check_backup(folder, 1, BackupProgress())
    return str(error.value)


def test_the_backup_itself_is_accepted(tmp_path: Path) -> None:
    content = made(tmp_path)
    (tmp_path / manifest.FILE).write_text(json.dumps(content))

    assert restore.check_backup(tmp_path, 1, BackupProgress()).artifacts[0].name == NAME


NAMES = (
    "../../outside",
    "../../../victim/.bashrc",
    "/etc/cron.d/x",
    "models/market/../../../x-0123456789abcdef.pkl",
    "models/../x/a@1-0123456789abcdef.pkl",
    "models/market/a.pkl",
    "models/market/a@1-0123456789abcdef.pkl\n",
    "models/market/a@1-0123456789abcdef.pkl\u0000",
    "models\\market\\a@1-0123456789abcdef.pkl",
    "",
    "artifacts",
)


@pytest.mark.parametrize("name", NAMES)
def test_an_artifact_is_put_nowhere_but_under_a_name_of_the_store(tmp_path: Path, name: str) -> None:
    content = made(tmp_path)
    content["artifacts"][0]["name"] = name

    assert refused(tmp_path, content)


PATHS = (
    "../secret",
    "/etc/passwd",
    "inside",
    "manifest.json",
    f"artifacts/../artifacts/{NAME}",
    f"artifacts/{NAME}/",
    "snapshots/../snapshots/partition-0.snapshot",
    "snapshots/.bashrc",
    "snapshots/partition-0.snapshot/../../x",
    f"topics/{TOPIC}/0.jsonl.gz",
    "",
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("of", ["artifact", "snapshot", "log"])
def test_a_file_is_read_nowhere_but_at_its_place_in_the_backup(tmp_path: Path, path: str, of: str) -> None:
    folder = tmp_path / "backup"
    content = made(folder)
    (tmp_path / "secret").write_bytes(BYTES)
    (folder / "inside").write_bytes(BYTES)
    files = {"artifact": content["artifacts"][0]["file"], "snapshot": content["snapshots"][0]}
    file = files.get(of) or content["topics"][0]["partitions"][0]["file"]
    file.update({"path": path, "bytes": len(BYTES), "sha256": sha256(BYTES).hexdigest()})

    assert refused(folder, content)


def _linked(folder: Path) -> None:
    path = folder / "artifacts" / NAME
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")


def _fifo(folder: Path) -> None:
    (folder / "artifacts" / NAME).unlink()
    os.mkfifo(folder / "artifacts" / NAME)


def _device(folder: Path) -> None:
    (folder / "artifacts" / NAME).unlink()
    (folder / "artifacts" / NAME).symlink_to("/dev/zero")


def _folder_linked(folder: Path) -> None:
    (folder / "artifacts").rename(folder / "real")
    (folder / "artifacts").symlink_to(folder / "real")


@pytest.mark.parametrize("turned", [_linked, _fifo, _device, _folder_linked])
def test_links_and_devices_in_a_backup_are_not_followed(tmp_path: Path, turned: Callable[[Path], None]) -> None:
    content = made(tmp_path)
    turned(tmp_path)

    assert NAME in refused(tmp_path, content)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another format": lambda m: m.update(format=2),
    "no partitions": lambda m: m.update(partitions=0),
    "a million partitions": lambda m: m.update(partitions=10**6),
    "an unknown topic": lambda m: m["topics"][0].update(name="__consumer_offsets"),
    "a topic that is not kept": lambda m: m["topics"][0].update(name="ingest.event_received.v1"),
    "a topic as a path": lambda m: m["topics"][0].update(name="../x"),
    "a topic listed as compacted": lambda m: m["topics"][0].update(compacted=True),
    "a topic without partitions": lambda m: m["topics"][0].update(partitions=[]),
    "a topic twice": lambda m: m["topics"].append(m["topics"][0]),
    "an artifact twice": lambda m: m["artifacts"].append(m["artifacts"][0]),
    "a snapshot twice": lambda m: m["snapshots"].append(m["snapshots"][0]),
    "a negative size": lambda m: m["snapshots"][0].update(bytes=-1),
    "a size beyond any disk": lambda m: m["snapshots"][0].update(bytes=10**30),
    "another size": lambda m: m["snapshots"][0].update(bytes=6),
    "another sha256": lambda m: m["snapshots"][0].update(sha256="0" * 64),
    "no sha256": lambda m: m["snapshots"][0].update(sha256=""),
    "an offset beyond all": lambda m: m["topics"][0]["partitions"][0].update(end=10**30),
    "an offset that needs years of empty records": lambda m: m["topics"][0]["partitions"][0].update(end=10**15),
    "an end before the start": lambda m: m["topics"][0]["partitions"][0].update(end=1),
    "a start after the first record": lambda m: m["topics"][0]["partitions"][0].update(start=4),
    "more records": lambda m: m["topics"][0]["partitions"][0].update(records=3),
    "fewer records": lambda m: m["topics"][0]["partitions"][0].update(records=1),
    "another digest": lambda m: m["topics"][0]["partitions"][0].update(digest="0" * 64),
    "a list": lambda m: m.update(topics=[[]]),
    "no artifacts": lambda m: m.pop("artifacts"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_manifest_that_says_what_cannot_be_is_refused(tmp_path: Path, what: str) -> None:
    content = made(tmp_path)
    CHANGES[what](content)

    assert refused(tmp_path, content)


@pytest.mark.parametrize(
    "raw",
    [
        b"no json\n",
        b"[]\n[]\n",
        b'{"offset": "3", "time": 1}\n{"offset": 5, "time": 2}\n',
        b'{"offset": true, "time": 1}\n{"offset": 5, "time": 2}\n',
        b'{"offset": 5, "time": 1}\n{"offset": 3, "time": 2}\n',
        b'{"offset": 3, "time": 1}\n{"offset": 3, "time": 2}\n',
        b'{"offset": 3, "time": -1}\n{"offset": 5, "time": 2}\n',
        b'{"offset": 3, "time": 1, "key64": 5}\n{"offset": 5, "time": 2}\n',
        b'{"offset": 3, "time": 1, "headers": 5}\n{"offset": 5, "time": 2}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_log_of_what_are_no_records_is_refused_before_anything_is_written(tmp_path: Path, raw: bytes) -> None:
    content = made(tmp_path)
    content["topics"][0]["partitions"] = [json.loads(log(tmp_path, RECORDS, raw).model_dump_json())]

    assert "0.jsonl.gz" in refused(tmp_path, content)


def test_a_refused_restore_leaves_nothing_behind_and_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLOOP_PARTITIONS", "1")
    monkeypatch.delenv("EVERLOOP_KAFKA_BOOTSTRAP", raising=False)
    content = made(tmp_path / "backup")
    content["artifacts"].append({**content["artifacts"][0], "name": "../../../victim/.bashrc"})
    (tmp_path / "backup" / manifest.FILE).write_text(json.dumps(content))
    before = sorted(tmp_path.rglob("*"))

    done = CliRunner().invoke(build(), ["restore", str(tmp_path / "backup"), "--data", str(tmp_path / "deep" / "new")])

    assert done.exit_code == 1
    assert "victim" in done.output
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_changes_after_the_check_is_not_put_anywhere(tmp_path: Path) -> None:
    content = made(tmp_path)
    file = BackupFile.model_validate(content["artifacts"][0]["file"])
    (tmp_path / file.path).write_bytes(b"another")

    with pytest.raises(BackupDamaged, match="changed"):
        manifest.contents(tmp_path, file)


@pytest.mark.parametrize("loop", ["../../outside", "/tmp/x", "a/b", "", "Market", None])
def test_a_record_leads_a_backup_nowhere(tmp_path: Path, loop: object) -> None:
    settings = BackupSettings(data=tmp_path / "installation")
    backup = Backup(settings, tmp_path / "backup", None, BackupProgress())  # type: ignore[arg-type]
    data = {"version": "a-0@10", "uri": f"file://{tmp_path}/secret", "sha256": sha256(BYTES).hexdigest()}
    (tmp_path / "secret").write_bytes(BYTES)

    for values in ({**data}, {**data, "version": "../a@1"}, {**data, "sha256": "../" * 20}, {**data, "sha256": 5}):
        backup.note(ModelTrained.topic, BackupRecord(0, 0, None, json.dumps({"loop": loop, "data": values}).encode()))
    backup.note(ModelTrained.topic, BackupRecord(1, 0, None, json.dumps({"loop": "market", "data": data}).encode()))
    found, missing = backup.save_artifacts()

    assert (found, missing) == ([], [NAME])
    assert not (tmp_path / "backup").exists()


def test_an_installation_restored_from_a_backup_is_for_its_owner_alone(tmp_path: Path) -> None:
    settings = BackupSettings(data=tmp_path / "installation", partitions=1)
    content = made(tmp_path / "backup")

    async def work() -> None:
        restore.write_files(settings, tmp_path / "backup", BackupManifest.model_validate(content), BackupProgress())

    asyncio.run(work())

    assert (tmp_path / "installation" / "artifacts" / NAME).read_bytes() == BYTES
    assert (settings.snapshots / "partition-0.snapshot").read_bytes() == b"learned"


def test_models_that_came_in_from_elsewhere_or_from_a_training_are_in_a_backup_too() -> None:
    sha = sha256(BYTES).hexdigest()
    name = ArtifactStore.name("market", "net-8@7", sha, "onnx")
    version = {"version": "net-8@7", "sha256": sha, "manifest": {"format": "onnx"}}
    stored = {"uri": f"file:///anywhere/{name}", "sha256": sha, "format": "onnx"}

    decided = artifacts_named(Decided.topic, {"loop": "market", "data": {"model": version}})
    finished = artifacts_named(RunFinished.topic, {"loop": "market", "data": {"artifact": stored}})
    elsewhere = artifacts_named(RunFinished.topic, {"data": {"artifact": {**stored, "uri": "file:///etc/passwd"}}})

    assert decided == finished == {name: sha}
    assert elsewhere == {}
    assert artifacts_named(RunFinished.topic, {"data": {"artifact": None}}) == {}
    assert artifacts_named(Decided.topic, {"loop": "market", "data": {"spec": {}}}) == {}
