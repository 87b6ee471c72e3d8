"""Restores a backup into an empty installation, and verifies that the logs are equal to it afterwards."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from everloop.backup import log_file, manifest, personal_keys
from everloop.backup.cut import FOREVER_TOPICS
from everloop.backup.errors import BackupDamaged, NotEmpty, RestoreFailed
from everloop.backup.logs import ClusterReader, ClusterWriter, admin, cluster_errors
from everloop.backup.manifest import BackupManifest, TopicLog
from everloop.backup.progress import BackupProgress
from everloop.backup.records import digest
from everloop.backup.settings import BackupSettings
from everloop.local.personal import KEYS
from everloop_models import ArtifactUnavailable
from everloop_models.store import ArtifactStore, write_atomically
from everloop_schemas.catalogue import TOPICS
from everloop_schemas.envelope import Topic
from everloop_schemas.topology import SERVICES
from everloop_shared.errors import ServiceError
from everloop_shared.messaging.kafka.topics import ensure_topics

if TYPE_CHECKING:
    from everloop_shared.signing.trust import TrustStore

TOPICS_MADE_WITHIN_S = 60.0
TOPICS_DELETED_WITHIN_S = 10.0
GROUPS_LOADED_WITHIN_S = 20.0
IGNORED_FILES = {"logs", "supervisor.lock", "services.json"}


def check_backup(
    source: Path, partitions: int, progress: BackupProgress, trust: TrustStore | None = None
) -> BackupManifest:
    """The manifest of a backup that is complete and fits, and is signed by a key of `trust` where that is given.

    Raises BackupDamaged, BackupUntrusted and RestoreFailed; writes nothing.
    """
    saved = manifest.read(source, trust)
    if saved.partitions != partitions:
        what = f"The backup has {saved.partitions} partitions a topic, and EVERLOOP_PARTITIONS says {partitions}"
        raise RestoreFailed(f"{what}.", f"Set EVERLOOP_PARTITIONS={saved.partitions}, for the services too.")
    kept = {topic.name: topic for topic in FOREVER_TOPICS}
    if unknown := [
        log.name for log in saved.topics if log.name not in kept or kept[log.name].compacted != log.compacted
    ]:
        raise RestoreFailed(
            f"This release has no such topic {', '.join(unknown)}.", "Restore with the release that made the backup."
        )
    if short := [log.name for log in saved.topics if len(log.partitions) != partitions]:
        raise BackupDamaged(f"{short[0]} has other than {partitions} partitions.", "Use another backup.")
    progress.begin_stage("files verified", len(saved.files()))
    for file in saved.files():
        manifest.check(source, file)
        progress.advance()
    for log in saved.topics:
        for part in log.partitions:
            log_file.check(source, log, part)
    return saved


def check_folder(folder: Path) -> None:
    """Raises NotEmpty unless the folder is absent or holds nothing of an installation."""
    left = sorted(path.name for path in folder.iterdir() if path.name not in IGNORED_FILES) if folder.exists() else []
    if left:
        what = f"{folder} is not empty: it holds {', '.join(left[:5])}."
        raise NotEmpty(what, "Name a folder that does not exist yet with --data.")


async def restore(settings: BackupSettings, source: Path, saved: BackupManifest, progress: BackupProgress) -> None:
    """Write everything to an empty cluster and folder; after a failure, remove what was written.

    Raises InstallationError.
    """
    async with cluster_errors(settings):
        await _check_cluster(settings)
        try:
            topics = [TOPICS[log.name] for log in saved.topics]
            await ensure_topics(settings, topics, TOPICS_MADE_WITHIN_S)
            await _write_topics(settings, source, saved, progress)
            await _verify(settings, saved, progress)
            write_files(settings, source, saved, progress)
        except BaseException as e:
            await _remove_written(settings, saved, progress)
            if isinstance(e, OSError | ArtifactUnavailable | ServiceError) and not isinstance(e, TimeoutError):
                reason = getattr(e, "detail", None) or getattr(e, "strerror", None) or e
                raise RestoreFailed(f"The restore cannot be finished: {reason}", "Nothing of it is left.") from e
            raise


async def _check_cluster(settings: BackupSettings) -> None:
    """Raises NotEmpty where the topics hold records or the consumer groups have offsets."""
    prefix = settings.topic_prefix
    async with ClusterReader(settings) as reader:
        found = [name for name in reader.names if name in TOPICS or name.split(".")[0] in SERVICES]
        ends = await reader.ends([TOPICS.get(name) or Topic(name, "", "loop") for name in found])
    if full := sorted({topic for (topic, _), end in ends.items() if end > 0}):
        what = f"Kafka at {settings.kafka_bootstrap} holds records: {', '.join(full[:3])} and others."
        raise NotEmpty(what, "Restore to an empty cluster, or under another EVERLOOP_TOPIC_PREFIX.")
    async with admin(settings) as client:
        groups = await _list_groups(client)
        for service in SERVICES:
            group = f"{prefix}{service}"
            if group in groups and any(
                at.offset > 0 for at in (await client.list_consumer_group_offsets(group)).values()
            ):
                what = f"The consumer group {group} has offsets of earlier topics of these names."
                raise NotEmpty(what, f"Delete it: kafka-consumer-groups.sh --delete --group {group}")


async def _list_groups(client: AIOKafkaAdminClient) -> set[str]:
    """The names of all consumer groups; waits until a broker that has just started has loaded them."""
    deadline = time.monotonic() + GROUPS_LOADED_WITHIN_S
    while True:
        try:
            return {group[0] for group in await client.list_consumer_groups()}
        except KafkaError as e:
            if not e.retriable or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


async def _write_topics(
    settings: BackupSettings, source: Path, saved: BackupManifest, progress: BackupProgress
) -> None:
    progress.begin_stage("topics", saved.records())
    async with ClusterWriter(settings) as writer:
        for log in saved.topics:
            for number, part in enumerate(log.partitions):
                records, before = log_file.records(source, part), 0
                end = None if log.compacted else part.end
                async for sent in writer.write(log.name, number, records, part.start, end):
                    progress.advance(sent - before)
                    before = sent


async def _verify(settings: BackupSettings, saved: BackupManifest, progress: BackupProgress) -> None:
    """Read everything back: the same records at the same offsets; of compacted topics, the same last values."""
    progress.begin_stage("verified", saved.records())
    async with ClusterReader(settings) as reader:
        topics = [TOPICS[log.name] for log in saved.topics]
        ends, starts = await reader.ends(topics), await reader.starts(topics)
        for log in saved.topics:
            for number, part in enumerate(log.partitions):
                bounds = starts[log.name, number], ends[log.name, number]
                same = log.compacted or bounds == (part.start, part.end)
                if not same or await _read_digest(reader, log, number, bounds[1], progress) != part.digest:
                    what = f"{log.name}/{number} differs from the backup"
                    raise RestoreFailed(f"{what}: another producer wrote to it.", "Stop the services first.")


async def _read_digest(reader: ClusterReader, log: TopicLog, number: int, end: int, progress: BackupProgress) -> str:
    found = digest(log.compacted)
    if log.partitions[number].records:
        async for record in reader.read(log.name, number, end):
            found.add(record)
            progress.advance()
    return found.hex()


def write_files(settings: BackupSettings, source: Path, saved: BackupManifest, progress: BackupProgress) -> None:
    progress.begin_stage("artifacts and snapshots", len(saved.artifacts) + len(saved.snapshots))
    store = ArtifactStore(settings.artifact_url)
    for artifact in saved.artifacts:
        store.put(artifact.name, manifest.contents(source, artifact.file))
        progress.advance()
    for snapshot in saved.snapshots:
        write_atomically(settings.snapshots / Path(snapshot.path).name, manifest.contents(source, snapshot))
        progress.advance()
    if destroyed := personal_keys.restore(settings, source, saved):
        progress.print(f"{destroyed:,} persons stay erased: their erasure was under way when the backup was made.")


async def _remove_written(settings: BackupSettings, saved: BackupManifest, progress: BackupProgress) -> None:
    for name in ("artifacts", "training", KEYS.parent):  # neither existed before the restore
        shutil.rmtree(settings.data / name, ignore_errors=True)
    names = [settings.topic_prefix + log.name for log in saved.topics]
    try:
        async with admin(settings) as client, asyncio.timeout(TOPICS_DELETED_WITHIN_S):
            await client.delete_topics(names)  # all of them: a new topic may not be listed yet
            while set(names) & set(await client.list_topics()):
                await asyncio.sleep(0.05)
    except (KafkaError, TimeoutError):
        with suppress(Exception):
            progress.print(f"Left on the cluster, to be deleted by hand: {', '.join(names)}")
