"""Keys of personal values in a backup: wrapped, in a file of their own, without persons who are being erased."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.builders.personal import bytes_below, vault_of
from tests.everloop.backup.prefixed_cluster import PARTITIONS
from tests.training.personal_outcomes import personal_state

from everloop.backup import personal_keys
from everloop.backup.errors import BackupDamaged
from everloop.backup.manifest import KEYS_FILE, BackupFile, BackupManifest, PartitionLog, SavedKeys, TopicLog
from everloop.backup.progress import BackupProgress
from everloop.backup.records import BackupRecord, digest
from everloop.backup.restore import write_files
from everloop.backup.running import about_persons
from everloop.backup.save import Backup
from everloop.backup.settings import BackupSettings
from everloop.local.personal import with_keys_of
from everloop_shared.personal import Vault
from everloop_shared.personal.master import read_master_keys


def settings_of(folder: Path) -> BackupSettings:
    return with_keys_of(folder, BackupSettings(data=folder, partitions=PARTITIONS))


def topic(folder: Path, name: str, *events: dict[str, Any]) -> TopicLog:
    """A topic of the backup in a folder, with these events in its only partition."""
    path, whole = f"topics/{name}/0.jsonl.gz", digest(False)
    records = [BackupRecord(n, 1, b"market/x", json.dumps(one).encode()) for n, one in enumerate(events)]
    for record in records:
        whole.add(record)
    (folder / path).parent.mkdir(parents=True)
    (folder / path).write_bytes(gzip.compress(b"".join(record.line() for record in records)))
    of = {"start": 0, "end": len(records), "records": len(records), "digest": whole.hex()}
    part = PartitionLog.model_validate({"file": BackupFile.of(folder, path), **of})
    return TopicLog(name=name, compacted=False, partitions=[part])


def manifest_of(keys: SavedKeys | None, *topics: TopicLog, lacking: tuple[str, ...] = ()) -> BackupManifest:
    return BackupManifest(
        made=datetime(2026, 1, 1, tzinfo=UTC),
        topic_prefix="",
        partitions=1,
        topics=[*topics],
        artifacts=[],
        snapshots=[],
        personal=keys,
        lacks_keys_of=[*lacking],
    )


def test_keys_come_back_but_for_persons_whose_erasure_was_asked_for_and_not_done(tmp_path: Path) -> None:
    source, target, backup = tmp_path / "source", tmp_path / "target", tmp_path / "backup"
    vault = vault_of(source)
    tokens = {name: vault.seal_now("market", name, {"features": {"b": 1.5}}) for name in ("anna", "ben", "carl")}
    comment = vault.seal_now("market", "prediction:p", {"comment": "of ben"})
    vault.store.set_owner("market", "prediction:p", "ben")
    keys = personal_keys.save(settings_of(source), backup)
    asked = [{"id": f"e-{name}", "loop": "market", "subject": name} for name in ("anna", "ben")]
    done = {"id": "d-anna", "loop": "market", "subject": "anna", "causationid": "e-anna"}  # she came back since
    topics = [topic(backup, personal_keys.ASKED_FOR, *asked), topic(backup, personal_keys.DONE, done)]
    saved = manifest_of(keys, *topics)

    write_files(BackupSettings(data=target), backup, saved, BackupProgress())

    master = source / "personal" / "master.key"
    restored = Vault(with_keys_of(target, BackupSettings(data=target)).personal_keys_url, master)
    opened = {name: restored.unseal_now("market", name, token) is not None for name, token in tokens.items()}
    assert opened == {"anna": True, "ben": False, "carl": True}
    assert restored.unseal_now("market", "prediction:p", comment) is None
    assert (keys and keys.keys, keys and keys.masters) == (4, [read_master_keys(master)[0].id])
    assert read_master_keys(master)[0].to_text().encode() not in bytes_below(backup)
    assert keys is not None
    assert keys.masters[0] in about_persons(saved)
    assert "erase these persons again" in about_persons(saved)


def test_a_backup_without_a_store_of_keys_says_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = Backup(settings_of(tmp_path), tmp_path, None, BackupProgress())  # type: ignore[arg-type]
    state = json.loads(personal_state().encode())["data"]
    backup.states |= {"market": state, "gone": {**state, "deleted": True}, "broken": {}}

    found = backup.save_keys()

    assert found == (None, ["market"])
    assert "the keys of personal values of market" in capsys.readouterr().err
    assert "market too" in about_persons(manifest_of(None, lacking=("market",)))


@pytest.mark.parametrize("line", [b"{}", b"[]", b'{"loop": 1}', b"\xff", b'{"wrapped": "%", "last_used": "x"}'])
def test_a_line_that_is_no_key_is_refused(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / KEYS_FILE
    file.parent.mkdir()
    file.write_bytes(line + b"\n")
    saved = manifest_of(SavedKeys(file=BackupFile.of(tmp_path, KEYS_FILE), keys=1, masters=[]))

    with pytest.raises(BackupDamaged, match="a line that is no key"):
        personal_keys.restore(BackupSettings(data=tmp_path / "target"), tmp_path, saved)
