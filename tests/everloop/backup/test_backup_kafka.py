"""Backup and restore on a real broker: what comes back says the same, at the same offsets, or nothing comes back."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import RecordsToDelete  # type: ignore[import-untyped]
from tests.databases import database_url
from tests.registry.registry_harness import LOOP_FILE, registry_on, store_model
from tests.training.training_world import event as outcome_event

from everloop.backup import manifest, restore
from everloop.backup.errors import NotEmpty, RestoreFailed
from everloop.backup.logs import ClusterReader, ClusterWriter, admin
from everloop.backup.manifest import BackupManifest
from everloop.backup.progress import BackupProgress
from everloop.backup.records import BackupRecord
from everloop.backup.save import back_up
from everloop.backup.settings import BackupSettings
from everloop.local.kafka import Broker
from everloop_models.store import ArtifactStore
from everloop_registry.adapters.loop_reader import SqlLoopReader
from everloop_registry.settings import RegistrySettings
from everloop_registry.tables import MIGRATIONS
from everloop_schemas.envelope import Topic
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.training import ModelTrained
from everloop_shared.database import Database
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.routes import connected

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
PARTITIONS = 2


@dataclass
class Place:
    """An installation's folder and cluster; a prefix of its own makes the shared broker an empty cluster."""

    settings: BackupSettings

    async def dump(self) -> str:
        """The registry's fold, once it has read its topic."""
        told = self.settings.model_dump(include={"data", "kafka_bootstrap", "topic_prefix", "partitions"})
        settings = RegistrySettings(**told, port=0, database_url=database_url(self.settings.data))
        async with registry_on(kafka_factory(settings), settings):
            pass
        async with Database(settings.database, MIGRATIONS, schema="registry") as database:
            return await SqlLoopReader(database).dump()

    async def records(self, topic: Topic) -> list[list[BackupRecord]]:
        """Every record of a topic, by partition."""
        async with ClusterReader(self.settings) as reader:
            ends = await reader.ends([topic])
            return [
                [r async for r in reader.read(topic.name, p, ends[topic.name, p]) if not r.fills_gap]
                for p in range(PARTITIONS)
                if (topic.name, p) in ends
            ]

    async def bounds(self, topic: Topic) -> list[tuple[int, int]]:
        """First and next offset of each partition."""
        async with ClusterReader(self.settings) as reader:
            starts, ends = await reader.starts([topic]), await reader.ends([topic])
        return [(starts[topic.name, p], ends[topic.name, p]) for p in range(PARTITIONS)]

    async def topics(self) -> set[str]:
        """What is on the cluster under this prefix."""
        async with ClusterReader(self.settings) as reader:
            return reader.names

    async def say(self, topic: Topic, partition: int, key: bytes, value: bytes) -> None:
        """Append a record."""
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka_bootstrap, acks="all")
        await producer.start()
        try:
            await producer.send_and_wait(self.settings.topic_prefix + topic.name, value, key, partition)
        finally:
            await producer.stop()


MakePlace = Callable[[str], Place]


@pytest.fixture
def place(kafka: Broker, tmp_path: Path) -> MakePlace:
    """Makes places by name."""
    run = uuid4().hex[:8]

    def make(name: str) -> Place:
        return Place(
            BackupSettings(
                data=tmp_path / name,
                kafka_bootstrap=kafka.bootstrap,
                topic_prefix=f"{name}-{run}.",
                partitions=PARTITIONS,
            )
        )

    return make


async def lived(place: Place) -> None:
    """Two loops applied and revised, outcomes, a version with its artifact, a snapshot."""
    told = place.settings.model_dump(include={"data", "kafka_bootstrap", "topic_prefix", "partitions"})
    settings = RegistrySettings(**told, port=0, database_url=database_url(place.settings.data))
    await ensure_topics(settings, [OutcomeObserved.topic])
    trained = store_model("a-0", 200, place.settings.data / "artifacts")
    async with registry_on(kafka_factory(settings), settings) as client:
        for name in ("market", "desk"):
            await client.put(f"/{name}", content=LOOP_FILE.replace("market", name))
        await client.put("/market", content=LOOP_FILE + "gate: {confidence: 0.99}\n")
        outcomes = [outcome_event(i, loop) for i in range(300) for loop in ("market", "desk")]
        async with connected(kafka_factory(settings)("training")) as engine:
            await engine.publish([trained, *outcomes])
        async with asyncio.timeout(30):
            while not (await client.get("/market/versions")).json()["versions"]:
                await asyncio.sleep(0.05)
    place.settings.snapshots.mkdir(parents=True)
    (place.settings.snapshots / "partition-0.snapshot").write_bytes(b"learned")


async def restored(settings: BackupSettings, source: Path) -> BackupManifest:
    """Check it and put it back."""
    restore.check_folder(settings.data)
    whole = restore.check_backup(source, settings.partitions, BackupProgress())
    await restore.restore(settings, source, whole, BackupProgress())
    return whole


async def test_a_restored_installation_says_the_same_at_the_same_offsets(place: MakePlace, tmp_path: Path) -> None:
    old, new = place("old"), place("new")
    await lived(old)
    saved = await back_up(old.settings, tmp_path / "backup", BackupProgress())

    await restored(new.settings, tmp_path / "backup")

    assert not saved.missing
    for topic in (OutcomeObserved.topic, Decided.topic, ModelTrained.topic):
        assert await new.records(topic) == await old.records(topic)
    assert sum(map(len, await new.records(OutcomeObserved.topic))) == 600
    states = [[(r.key, r.value) for r in records] for records in await new.records(LoopState.topic)]
    assert states == [[(r.key, r.value) for r in records] for records in await old.records(LoopState.topic)]
    assert await new.dump() == await old.dump()
    assert (new.settings.snapshots / "partition-0.snapshot").read_bytes() == b"learned"


async def test_the_artifacts_of_a_restored_installation_are_found_though_their_versions_name_the_old_place(
    place: MakePlace, tmp_path: Path
) -> None:
    old, new = place("old"), place("new")
    await lived(old)
    await back_up(old.settings, tmp_path / "backup", BackupProgress())
    await restored(new.settings, tmp_path / "backup")
    [record] = [r for records in await new.records(ModelTrained.topic) for r in records]
    told = json.loads(record.value or b"")
    stores = [ArtifactStore(place.settings.artifact_url) for place in (old, new)]
    name = stores[1].named(told["data"]["uri"], told["loop"], told["data"]["version"], told["data"]["sha256"])
    before = stores[0].get(name)

    (old.settings.data / "artifacts").rename(tmp_path / "lost")
    after = stores[1].get(name, told["data"]["size"])

    assert after == before


async def test_a_log_whose_beginning_is_gone_keeps_its_offsets(place: MakePlace, tmp_path: Path) -> None:
    old, new = place("old"), place("new")
    await lived(old)
    [partition] = [p for p, (_, end) in enumerate(await old.bounds(OutcomeObserved.topic)) if end >= 300][:1]
    async with admin(old.settings) as client:
        tp = TopicPartition(old.settings.topic_prefix + OutcomeObserved.topic.name, partition)
        await client.delete_records({tp: RecordsToDelete(before_offset=120)})
    await back_up(old.settings, tmp_path / "backup", BackupProgress())

    await restored(new.settings, tmp_path / "backup")

    assert await new.bounds(OutcomeObserved.topic) == await old.bounds(OutcomeObserved.topic)
    assert await new.records(OutcomeObserved.topic) == await old.records(OutcomeObserved.topic)
    assert (await new.bounds(OutcomeObserved.topic))[partition][0] == 120


async def test_offsets_that_the_log_skips_are_skipped_again(place: MakePlace) -> None:
    new = place("gaps")
    await ensure_topics(new.settings, [OutcomeObserved.topic])
    records = [BackupRecord(offset, 1, b"l", b"%d" % offset) for offset in (2, 3, 7)]

    async with ClusterWriter(new.settings) as writer:
        sent = [n async for n in writer.write(OutcomeObserved.topic.name, 0, iter(records), 2, 10)]

    [read, _] = await new.records(OutcomeObserved.topic)
    assert sent[-1] == 3
    assert [(r.offset, r.value) for r in read] == [(2, b"2"), (3, b"3"), (7, b"7")]
    assert (await new.bounds(OutcomeObserved.topic))[0] == (2, 10)


async def test_where_an_installation_lives_nothing_is_restored(place: MakePlace, tmp_path: Path) -> None:
    old = place("old")
    await lived(old)
    await back_up(old.settings, tmp_path / "backup", BackupProgress())
    before = await old.bounds(OutcomeObserved.topic)
    elsewhere = old.settings.model_copy(update={"data": tmp_path / "empty"})

    with pytest.raises(NotEmpty, match="hold records"):
        await restored(elsewhere, tmp_path / "backup")

    assert await old.bounds(OutcomeObserved.topic) == before
    assert not (tmp_path / "empty").exists()


class Interrupting(BackupProgress):
    """Ctrl-C after so many steps of a stage."""

    def __init__(self, stage: str, after: int) -> None:
        super().__init__()
        self._where, self._after = stage, after

    def advance(self, more: int = 1) -> None:
        """One step more, or the end."""
        super().advance(more)
        if self._stage == self._where and self._done >= self._after:
            raise asyncio.CancelledError


async def interrupted(work: Awaitable[object]) -> None:
    """Run until it is interrupted."""
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_an_interrupted_backup_leaves_nothing(place: MakePlace, tmp_path: Path) -> None:
    old = place("old")
    await lived(old)

    await interrupted(back_up(old.settings, tmp_path / "backups/one", Interrupting("topics", 200)))

    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.parametrize(("stage", "after"), [("topics", 1), ("verified", 100), ("artifacts and snapshots", 2)])
async def test_an_interrupted_restore_leaves_nothing_and_can_be_repeated(
    place: MakePlace, tmp_path: Path, stage: str, after: int
) -> None:
    old, new = place("old"), place("new")
    await lived(old)
    whole = await back_up(old.settings, tmp_path / "backup", BackupProgress())

    await interrupted(restore.restore(new.settings, tmp_path / "backup", whole, Interrupting(stage, after)))
    left, folder = await new.topics(), new.settings.data.exists() and any(new.settings.data.iterdir())
    await restored(new.settings, tmp_path / "backup")

    assert left == set()
    assert not folder
    assert await new.records(OutcomeObserved.topic) == await old.records(OutcomeObserved.topic)


async def test_somebody_who_writes_meanwhile_is_noticed(place: MakePlace, tmp_path: Path) -> None:
    old, new = place("old"), place("new")
    await lived(old)
    whole = await back_up(old.settings, tmp_path / "backup", BackupProgress())
    await ensure_topics(new.settings, [OutcomeObserved.topic])

    class Disturbed(BackupProgress):
        """A service writes when the restore is about to read back."""

        def begin_stage(self, what: str, total: int) -> None:
            super().begin_stage(what, total)
            if what == "verified":
                asyncio.get_running_loop().create_task(new.say(OutcomeObserved.topic, 0, b"market", b"{}"))

    with pytest.raises(RestoreFailed, match="somebody else"):
        await restore.restore(new.settings, tmp_path / "backup", whole, Disturbed())

    assert await new.topics() == set()


def everloop(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator does."""
    told = {k: v for k, v in os.environ.items() if not k.startswith("EVERLOOP_")} | {"NO_COLOR": "1"} | environment
    command = [sys.executable, "-m", "everloop", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, env=told, check=False)


async def test_a_backup_of_what_was_restored_to_kafka_at_hand_is_the_same_backup(
    place: MakePlace, tmp_path: Path
) -> None:
    old, installation = place("old"), tmp_path / "installation"
    await lived(old)
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
