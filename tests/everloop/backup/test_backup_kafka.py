"""Backup and restore on a real broker: the same records at the same offsets, or none at all."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest
from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import RecordsToDelete  # type: ignore[import-untyped]
from tests.builders.personal import bytes_below, vault_of
from tests.everloop.backup.prefixed_cluster import PARTITIONS, MakeCluster, fill
from tests.training.personal_outcomes import found_in, sealed

from everloop.backup import manifest, restore
from everloop.backup.errors import NotEmpty, RestoreFailed
from everloop.backup.logs import ClusterWriter, admin
from everloop.backup.manifest import BackupManifest
from everloop.backup.progress import BackupProgress
from everloop.backup.records import BackupRecord
from everloop.backup.save import back_up
from everloop.backup.settings import BackupSettings
from everloop.local.personal import KEYS, with_keys_of
from everloop_models.store import ArtifactStore
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.training import ModelTrained
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.personal import Vault

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


async def restored(settings: BackupSettings, source: Path) -> BackupManifest:
    """Check the backup and restore it."""
    restore.check_folder(settings.data)
    whole = restore.check_backup(source, settings.partitions, BackupProgress())
    await restore.restore(settings, source, whole, BackupProgress())
    return whole


async def test_a_restored_installation_has_the_same_records_at_the_same_offsets(
    cluster_named: MakeCluster, tmp_path: Path
) -> None:
    old, new = cluster_named("old"), cluster_named("new")
    await fill(old)
    vault = vault_of(old.settings.data)
    token = vault.seal_now("market", "anna", {"features": {"price": 1.5}})
    for one in sealed(vault, 0, 20):
        await old.publish(one.topic, 0, one.key(), one.encode())
    settings = with_keys_of(old.settings.data, old.settings)
    saved = await back_up(settings, tmp_path / "backup", BackupProgress())

    await restored(new.settings, tmp_path / "backup")

    assert not saved.missing
    logs = b"".join(gzip.decompress(file.read_bytes()) for file in (tmp_path / "backup").rglob("*.gz"))
    written = logs + bytes_below(tmp_path / "backup")
    assert (found_in(written, range(20)), b"person-7" in logs) == ([], True)
    assert settings.personal_master_key is not None
    assert settings.personal_master_key.read_bytes().strip() not in written
    found = Vault(f"sqlite:///{new.settings.data / KEYS}", settings.personal_master_key)
    assert found.unseal_now("market", "anna", token) == {"features": {"price": 1.5}}
    for topic in (OutcomeObserved.topic, Decided.topic, ModelTrained.topic):
        assert await new.records(topic) == await old.records(topic)
    assert sum(map(len, await new.records(OutcomeObserved.topic))) == 620
    states = [[(r.key, r.value) for r in records] for records in await new.records(LoopState.topic)]
    assert states == [[(r.key, r.value) for r in records] for records in await old.records(LoopState.topic)]
    assert await new.dump() == await old.dump()
    assert (new.settings.snapshots / "partition-0.snapshot").read_bytes() == b"learned"


async def test_the_artifacts_of_a_restored_installation_are_found_though_their_versions_name_the_old_folder(
    cluster_named: MakeCluster, tmp_path: Path
) -> None:
    old, new = cluster_named("old"), cluster_named("new")
    await fill(old)
    await back_up(old.settings, tmp_path / "backup", BackupProgress())
    await restored(new.settings, tmp_path / "backup")
    [record] = [r for records in await new.records(ModelTrained.topic) for r in records]
    trained = json.loads(record.value or b"")
    stores = [ArtifactStore(cluster.settings.artifact_url) for cluster in (old, new)]
    name = stores[1].named(
        trained["data"]["uri"], trained["loop"], trained["data"]["version"], trained["data"]["sha256"]
    )
    before = stores[0].get(name)

    (old.settings.data / "artifacts").rename(tmp_path / "lost")
    after = stores[1].get(name, trained["data"]["size"])

    assert after == before


async def test_a_log_whose_beginning_is_gone_keeps_its_offsets(cluster_named: MakeCluster, tmp_path: Path) -> None:
    old, new = cluster_named("old"), cluster_named("new")
    await fill(old)
    [partition] = [p for p, (_, end) in enumerate(await old.bounds(OutcomeObserved.topic)) if end >= 300][:1]
    async with admin(old.settings) as client:
        tp = TopicPartition(old.settings.topic_prefix + OutcomeObserved.topic.name, partition)
        await client.delete_records({tp: RecordsToDelete(before_offset=120)})
    await back_up(old.settings, tmp_path / "backup", BackupProgress())

    await restored(new.settings, tmp_path / "backup")

    assert await new.bounds(OutcomeObserved.topic) == await old.bounds(OutcomeObserved.topic)
    assert await new.records(OutcomeObserved.topic) == await old.records(OutcomeObserved.topic)
    assert (await new.bounds(OutcomeObserved.topic))[partition][0] == 120


async def test_offsets_that_the_log_skips_are_skipped_again(cluster_named: MakeCluster) -> None:
    new = cluster_named("gaps")
    await ensure_topics(new.settings, [OutcomeObserved.topic])
    records = [BackupRecord(offset, 1, b"l", b"%d" % offset) for offset in (2, 3, 7)]

    async with ClusterWriter(new.settings) as writer:
        sent = [n async for n in writer.write(OutcomeObserved.topic.name, 0, iter(records), 2, 10)]

    [read, _] = await new.records(OutcomeObserved.topic)
    assert sent[-1] == 3
    assert [(r.offset, r.value) for r in read] == [(2, b"2"), (3, b"3"), (7, b"7")]
    assert (await new.bounds(OutcomeObserved.topic))[0] == (2, 10)


async def test_a_cluster_in_use_is_not_restored_to(cluster_named: MakeCluster, tmp_path: Path) -> None:
    old = cluster_named("old")
    await fill(old)
    await back_up(old.settings, tmp_path / "backup", BackupProgress())
    before = await old.bounds(OutcomeObserved.topic)
    elsewhere = old.settings.model_copy(update={"data": tmp_path / "empty"})

    with pytest.raises(NotEmpty, match="holds records"):
        await restored(elsewhere, tmp_path / "backup")

    assert await old.bounds(OutcomeObserved.topic) == before
    assert not (tmp_path / "empty").exists()


class Interrupting(BackupProgress):
    """Ctrl-C after so many steps of a stage."""

    def __init__(self, stage: str, after: int) -> None:
        super().__init__()
        self._where, self._after = stage, after

    def advance(self, more: int = 1) -> None:
        """One more step, or the interruption."""
        super().advance(more)
        if self._stage == self._where and self._done >= self._after:
            raise asyncio.CancelledError


async def interrupted(work: Awaitable[object]) -> None:
    """Run until it is interrupted."""
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_an_interrupted_backup_leaves_nothing(cluster_named: MakeCluster, tmp_path: Path) -> None:
    old = cluster_named("old")
    await fill(old)

    await interrupted(back_up(old.settings, tmp_path / "backups/one", Interrupting("topics", 200)))

    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.parametrize(("stage", "after"), [("topics", 1), ("verified", 100), ("artifacts and snapshots", 2)])
async def test_an_interrupted_restore_leaves_nothing_and_can_be_repeated(
    cluster_named: MakeCluster, tmp_path: Path, stage: str, after: int
) -> None:
    old, new = cluster_named("old"), cluster_named("new")
    await fill(old)
    whole = await back_up(old.settings, tmp_path / "backup", BackupProgress())

    await interrupted(restore.restore(new.settings, tmp_path / "backup", whole, Interrupting(stage, after)))
    left, folder = await new.topics(), new.settings.data.exists() and any(new.settings.data.iterdir())
    await restored(new.settings, tmp_path / "backup")

    assert left == set()
    assert not folder
    assert await new.records(OutcomeObserved.topic) == await old.records(OutcomeObserved.topic)


async def test_another_producer_during_the_restore_is_detected(cluster_named: MakeCluster, tmp_path: Path) -> None:
    old, new = cluster_named("old"), cluster_named("new")
    await fill(old)
    whole = await back_up(old.settings, tmp_path / "backup", BackupProgress())
    await ensure_topics(new.settings, [OutcomeObserved.topic])

    class Disturbed(BackupProgress):
        """A service writes when the restore is about to read back."""

        def begin_stage(self, what: str, total: int) -> None:
            super().begin_stage(what, total)
            if what == "verified":
                asyncio.get_running_loop().create_task(new.publish(OutcomeObserved.topic, 0, b"market", b"{}"))

    with pytest.raises(RestoreFailed, match="another producer"):
        await restore.restore(new.settings, tmp_path / "backup", whole, Disturbed())

    assert await new.topics() == set()


def everloop(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator does."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("EVERLOOP_")} | {"NO_COLOR": "1"} | environment
    command = [sys.executable, "-m", "everloop", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, env=variables, check=False)


async def test_a_backup_of_what_was_restored_to_kafka_at_hand_is_the_same_backup(
    cluster_named: MakeCluster, tmp_path: Path
) -> None:
    old, installation = cluster_named("old"), tmp_path / "installation"
    await fill(old)
    at = {"EVERLOOP_TOPIC_PREFIX": old.settings.topic_prefix, "EVERLOOP_PARTITIONS": f"{PARTITIONS}"}
    where = ("--data", str(old.settings.data), "--kafka", old.settings.kafka_bootstrap)

    saved = everloop("backup", str(tmp_path / "one"), *where, "--json", **at)
    back = everloop("restore", str(tmp_path / "one"), "--data", str(installation), "--json", **at)
    again = everloop("backup", str(tmp_path / "two"), "--data", str(installation), **at)
    twice = everloop("restore", str(tmp_path / "one"), "--data", str(installation), **at)

    for done in (saved, back, again):
        assert done.returncode == 0, f"{done.args[3:5]}: {done.stderr}"
    one, two = (manifest.read(tmp_path / name) for name in ("one", "two"))
    digests = [
        {(log.name, n): (part.digest, part.records) for log in whole.topics for n, part in enumerate(log.partitions)}
        for whole in (one, two)
    ]
    assert digests[0] == digests[1]
    assert json.loads(back.stdout)["records"] == json.loads(saved.stdout)["records"]
    assert [a.file for a in one.artifacts] == [a.file for a in two.artifacts]
    assert (twice.returncode, "is not empty" in twice.stderr) == (1, True)
