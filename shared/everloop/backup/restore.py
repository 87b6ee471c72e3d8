"""Puts a backup back into an empty installation, and proves that what lies there now says the same."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from everloop.backup import log_file, manifest
from everloop.backup.cut import FOREVER_TOPICS
from everloop.backup.errors import BackupDamaged, NotEmpty, RestoreFailed
from everloop.backup.logs import LogReader, LogWriter, admin, kafka_speaks
from everloop.backup.manifest import Manifest, TopicLog
from everloop.backup.progress import Meter
from everloop.backup.records import digest
from everloop.backup.settings import BackupSettings
from everloop.local.ports import SERVICES
from everloop_models import ArtifactUnavailable
from everloop_models.store import ArtifactStore, write_atomically
from everloop_schemas.catalogue import TOPICS
from everloop_schemas.envelope import Topic
from everloop_shared.errors import ServiceError
from everloop_shared.messaging.kafka.topics import ensure_topics

BROKER_WITHIN_S = 60.0
GONE_WITHIN_S = 10.0
GROUPS_WITHIN_S = 20.0
HARMLESS = {"logs", "supervisor.lock", "services.json"}


def check_backup(source: Path, partitions: int, meter: Meter) -> Manifest:
    """The manifest of a backup that is whole and fits. Raises BackupDamaged and RestoreFailed; writes nothing."""
    whole = manifest.read(source)
    if whole.partitions != partitions:
        what = f"The backup has {whole.partitions} partitions a topic, and EVERLOOP_PARTITIONS says {partitions}"
        raise RestoreFailed(f"{what}.", f"Set EVERLOOP_PARTITIONS={whole.partitions}, for the services too.")
    kept = {topic.name: topic for topic in FOREVER_TOPICS}
    if strange := [
        log.name for log in whole.topics if log.name not in kept or kept[log.name].compacted != log.compacted
    ]:
        raise RestoreFailed(
            f"This release keeps no topic {', '.join(strange)} like that.", "Restore with the one that wrote it."
        )
    if short := [log.name for log in whole.topics if len(log.partitions) != partitions]:
        raise BackupDamaged(f"{short[0]} has not {partitions} partitions.", "Use another backup.")
    meter.stage("files verified", len(whole.files()))
    for file in whole.files():
        manifest.check(source, file)
        meter.step()
    for log in whole.topics:
        for part in log.partitions:
            log_file.check(source, log, part)
    return whole


def check_folder(folder: Path) -> None:
    """Raises NotEmpty unless nothing of an installation lies in its folder."""
    left = sorted(path.name for path in folder.iterdir() if path.name not in HARMLESS) if folder.exists() else []
    if left:
        what = f"{folder} is not empty: it holds {', '.join(left[:5])}."
        raise NotEmpty(what, "Name a folder that does not exist yet with --data.")


async def put_back(settings: BackupSettings, source: Path, whole: Manifest, meter: Meter) -> None:
    """Write everything to a cluster and a folder without an installation; a failure takes back what was written.

    Raises InstallationError.
    """
    async with kafka_speaks(settings):
        await _check_cluster(settings)
        try:
            topics = [TOPICS[log.name] for log in whole.topics]
            await ensure_topics(settings, topics, BROKER_WITHIN_S)
            await _write(settings, source, whole, meter)
            await _verify(settings, whole, meter)
            _files(settings, source, whole, meter)
        except BaseException as e:
            await _take_back(settings, whole, meter)
            if isinstance(e, OSError | ArtifactUnavailable | ServiceError) and not isinstance(e, TimeoutError):
                said = getattr(e, "detail", None) or getattr(e, "strerror", None) or e
                raise RestoreFailed(f"The restore cannot be finished: {said}", "Nothing of it is left.") from e
            raise


async def _check_cluster(settings: BackupSettings) -> None:
    """Raises NotEmpty where an installation works or has worked."""
    prefix = settings.topic_prefix
    async with LogReader(settings) as reader:
        there = [name for name in reader.names if name.split(".")[0] in SERVICES]
        ends = await reader.ends([TOPICS.get(name) or Topic(name, "", "loop") for name in there])
    if full := sorted({topic for (topic, _), end in ends.items() if end > 0}):
        what = f"Kafka at {settings.kafka_bootstrap} holds records: {', '.join(full[:3])} and others."
        raise NotEmpty(what, "Restore to an empty cluster, or under another EVERLOOP_TOPIC_PREFIX.")
    async with admin(settings) as client:
        known = await _groups(client)
        for service in SERVICES:
            group = f"{prefix}{service}"
            if group in known and any(
                at.offset > 0 for at in (await client.list_consumer_group_offsets(group)).values()
            ):
                what = f"The consumer group {group} remembers positions of other topics of these names."
                raise NotEmpty(what, f"Delete it: kafka-consumer-groups.sh --delete --group {group}")


async def _groups(client: AIOKafkaAdminClient) -> set[str]:
    """The names of all consumer groups, once a broker that has just started has loaded them."""
    deadline = time.monotonic() + GROUPS_WITHIN_S
    while True:
        try:
            return {group[0] for group in await client.list_consumer_groups()}
        except KafkaError as e:
            if not e.retriable or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


async def _write(settings: BackupSettings, source: Path, whole: Manifest, meter: Meter) -> None:
    meter.stage("topics", whole.records())
    async with LogWriter(settings) as writer:
        for log in whole.topics:
            for number, part in enumerate(log.partitions):
                records, before = log_file.records(source, part), 0
                end = None if log.compacted else part.end
                async for sent in writer.write(log.name, number, records, part.start, end):
                    meter.step(sent - before)
                    before = sent


async def _verify(settings: BackupSettings, whole: Manifest, meter: Meter) -> None:
    """Read everything back: the same records at the same offsets, or, of compacted topics, the same last words."""
    meter.stage("verified", whole.records())
    async with LogReader(settings) as reader:
        topics = [TOPICS[log.name] for log in whole.topics]
        ends, starts = await reader.ends(topics), await reader.starts(topics)
        for log in whole.topics:
            for number, part in enumerate(log.partitions):
                bounds = starts[log.name, number], ends[log.name, number]
                same = log.compacted or bounds == (part.start, part.end)
                if not same or await _digest(reader, log, number, bounds[1], meter) != part.digest:
                    what = f"{log.name}/{number} says something else than the backup now"
                    raise RestoreFailed(f"{what}: somebody else wrote to it.", "Stop the services first.")


async def _digest(reader: LogReader, log: TopicLog, number: int, end: int, meter: Meter) -> str:
    whole = digest(log.compacted)
    if log.partitions[number].records:
        async for record in reader.read(log.name, number, end):
            whole.add(record)
            meter.step()
    return whole.hex()


def _files(settings: BackupSettings, source: Path, whole: Manifest, meter: Meter) -> None:
    meter.stage("artifacts and snapshots", len(whole.artifacts) + len(whole.snapshots))
    store = ArtifactStore(settings.artifact_url)
    for artifact in whole.artifacts:
        store.put(artifact.name, manifest.contents(source, artifact.file))
        meter.step()
    for snapshot in whole.snapshots:
        write_atomically(settings.snapshots / Path(snapshot.path).name, manifest.contents(source, snapshot))
        meter.step()


async def _take_back(settings: BackupSettings, whole: Manifest, meter: Meter) -> None:
    for name in ("artifacts", "training"):  # both were not there before
        shutil.rmtree(settings.data / name, ignore_errors=True)
    names = [settings.topic_prefix + log.name for log in whole.topics]
    try:
        async with admin(settings) as client, asyncio.timeout(GONE_WITHIN_S):
            await client.delete_topics(names)  # all: what was just made may not be listed yet
            while set(names) & set(await client.list_topics()):
                await asyncio.sleep(0.05)
    except (KafkaError, TimeoutError):
        with suppress(Exception):
            meter.say(f"Left on the cluster, to be deleted by hand: {', '.join(names)}")
