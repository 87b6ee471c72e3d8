"""Makes a backup of an installation, which may be running meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from everloop.backup import manifest, personal_keys
from everloop.backup.cut import ARTIFACTS_IN, DECISIONS, EFFECTS_FIRST, Ends, cut, loop_without_state
from everloop.backup.errors import BackupExists, BackupFailed
from everloop.backup.logs import ClusterReader, cluster_errors
from everloop.backup.manifest import BackupArtifact, BackupFile, BackupManifest, PartitionLog, SavedKeys, TopicLog
from everloop.backup.progress import BackupProgress
from everloop.backup.records import BackupRecord, digest
from everloop.backup.settings import BackupSettings
from everloop.local.errors import InstallationNotFound
from everloop_learning.version import Version
from everloop_models import ArtifactCorrupt, ArtifactUnavailable
from everloop_models.formats import DEFAULT_FORMAT
from everloop_models.store import ArtifactStore, is_name, name_in, write_atomically
from everloop_schemas.envelope import Topic
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.training import ModelTrained, RunFinished, RunRequested
from everloop_shared.signing import signer_of

GZIP_LEVEL = 3
CUT_ATTEMPTS = 10
CUT_RETRY_S = 0.5
STATE_MISSING = (
    "the last decision about {} is on the log without the state that follows it: is the registry down? "
    "After a restore the services apply that decision with the next one."
)

KEYS_MISSING = (
    "not in the backup: the keys of personal values of {}. Set EVERLOOP_PERSONAL_KEYS_URL, or save that database by "
    "itself; without the keys nothing that is sealed can be opened again."
)


async def back_up(settings: BackupSettings, target: Path, progress: BackupProgress) -> BackupManifest:
    """Write the backup to a folder beside `target` and rename it when complete: there is all of it or nothing.

    The order keeps it consistent: snapshots, then the ends of the logs, effects before causes, then the records,
    then the artifacts that they name. Raises InstallationError.
    """
    check_target(target)
    beside = target.parent / f".{target.name}.partial-{os.getpid()}"
    try:
        beside.mkdir(parents=True)
        async with cluster_errors(settings), ClusterReader(settings) as reader:
            made = await Backup(settings, beside, reader, progress).make()
        if target.exists():
            target.rmdir()
        beside.rename(target)
        return made
    except OSError as e:
        fix = "Make room, or choose another folder."
        raise BackupFailed(f"The backup cannot be written to {target}: {e.strerror or e}.", fix) from e
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_target(target: Path) -> None:
    """Raises BackupExists unless the folder is absent or empty."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupExists(f"{target} is not empty.", "Name a folder that does not exist yet.")


@dataclass
class Backup:
    """A backup in the making, in `folder`."""

    settings: BackupSettings
    folder: Path
    reader: ClusterReader
    progress: BackupProgress
    named: dict[str, str] = field(default_factory=dict)
    """Artifacts that the log names: name in the store to sha256."""
    sequences: dict[str, dict[str, int]] = field(default_factory=dict)
    """By topic of the registry: each loop's last sequence."""
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The data of each loop's last state."""

    async def make(self) -> BackupManifest:
        """Save everything; the manifest, which is also in the folder."""
        snapshots = self._save_snapshots()
        there = [topic for topic in EFFECTS_FIRST if topic.name in self.reader.names]
        if Decided.topic not in there:
            where = f"Kafka at {self.settings.kafka_bootstrap}"
            fix = "Set EVERLOOP_TOPIC_PREFIX if the services use one, or name their cluster with --kafka."
            raise InstallationNotFound(f"No service has used {where}: it has no topic {Decided.topic.name}.", fix)
        ends, logs = await self._save_decisions(there)
        starts = await self.reader.starts(there)
        rest = [topic for topic in there if topic not in DECISIONS]
        self.progress.begin_stage("topics", sum(max(0, ends[tp] - starts[tp]) for tp in ends))
        logs += [await self._save_topic(topic, ends, starts) for topic in rest]
        artifacts, missing = self.save_artifacts()
        keys, lacks_keys_of = self.save_keys()
        made = BackupManifest(
            made=datetime.now(UTC),
            topic_prefix=self.settings.topic_prefix,
            partitions=1 + max(partition for _, partition in ends),
            topics=logs,
            artifacts=artifacts,
            snapshots=snapshots,
            missing=missing,
            personal=keys,
            lacks_keys_of=lacks_keys_of,
        )
        write_atomically(self.folder / manifest.FILE, made.model_dump_json(indent=1).encode())
        if (signer := signer_of(self.settings)) is not None:
            manifest.sign(self.folder, signer, made.made)
        return made

    def save_keys(self) -> tuple[SavedKeys | None, list[str]]:
        """The keys of personal values, and without a store of them the loops that have some."""
        keys = personal_keys.save(self.settings, self.folder)
        lacking = personal_keys.loops_without_keys(self.states) if keys is None else []
        if lacking:
            self.progress.print(KEYS_MISSING.format(", ".join(lacking)))
        return keys, lacking

    def _save_snapshots(self) -> list[BackupFile]:
        """First, so that the log goes at least as far as what was learned from it."""
        files = sorted(self.settings.snapshots.glob("*.snapshot"))
        for file in files:
            write_atomically(self.folder / "snapshots" / file.name, file.read_bytes())
        return [BackupFile.of(self.folder, f"snapshots/{file.name}") for file in files]

    async def _save_decisions(self, there: list[Topic]) -> tuple[Ends, list[TopicLog]]:
        """Cut the logs and save decisions and states; again if the cut fell between a decision and its state."""
        for attempt in range(CUT_ATTEMPTS):
            made = await cut(self.reader.ends, there)
            starts = await self.reader.starts(there)
            self.sequences.clear()
            logs = [await self._save_topic(topic, made.ends, starts) for topic in DECISIONS if topic in there]
            decided, states = (self.sequences.get(topic.name, {}) for topic in (Decided.topic, LoopState.topic))
            loop = loop_without_state(decided, states)
            if loop is None:
                return made.ends, logs
            if attempt == CUT_ATTEMPTS - 1:
                self.progress.print(STATE_MISSING.format(loop))
            await asyncio.sleep(CUT_RETRY_S)
        return made.ends, logs

    async def _save_topic(self, topic: Topic, ends: Ends, starts: Ends) -> TopicLog:
        partitions = sorted(p for name, p in ends if name == topic.name)
        parts = [await self._save_partition(topic, p, starts[topic.name, p], ends[topic.name, p]) for p in partitions]
        return TopicLog(name=topic.name, compacted=topic.compacted, partitions=parts)

    async def _save_partition(self, topic: Topic, partition: int, start: int, end: int) -> PartitionLog:
        path = f"topics/{topic.name}/{partition}.jsonl.gz"
        whole, records = digest(topic.compacted), 0
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (self.folder / path).open("wb") as file:
            with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed:
                if start < end:
                    async for record in self.reader.read(topic.name, partition, end):
                        packed.write(record.line())
                        whole.add(record)
                        records += 1
                        self.note(topic, record)
                        self.progress.advance()
            file.flush()
            os.fsync(file.fileno())
        whole_file = BackupFile.of(self.folder, path)
        return PartitionLog(file=whole_file, start=start, end=end, records=records, digest=whole.hex())

    def note(self, topic: Topic, record: BackupRecord) -> None:
        """Note the artifacts that versions name, and the last sequence of each loop's decisions and states."""
        if record.value is None or topic not in (*DECISIONS, *ARTIFACTS_IN):
            return
        with suppress(ValueError, KeyError, TypeError, AttributeError, ArtifactCorrupt):  # no event
            event = json.loads(record.value)
            self.named |= artifacts_named(topic, event)
            if topic in DECISIONS:
                sequence = event["sequence"] if topic == Decided.topic else event["data"]["sequence"]
                self.sequences.setdefault(topic.name, {})[event["loop"]] = sequence
                if topic == LoopState.topic:
                    self.states[event["loop"]] = event["data"]

    def save_artifacts(self) -> tuple[list[BackupArtifact], list[str]]:
        """Last, so that every version on the log has its artifact."""
        store, found, missing = (
            ArtifactStore(self.settings.artifact_url, self.settings.max_artifact_bytes),
            list[BackupArtifact](),
            list[str](),
        )
        self.progress.begin_stage("artifacts", len(self.named))
        for name, expected in sorted(self.named.items()):
            data = _find(store, name)
            if data is None and is_collectable(name, self.states):
                self.progress.advance()
                continue
            if data is None or sha256(data).hexdigest() != expected:
                missing.append(name)
            else:
                write_atomically(self.folder / "artifacts" / name, data)
                found.append(BackupArtifact(name=name, file=BackupFile.of(self.folder, f"artifacts/{name}")))
            self.progress.advance()
        self._report_missing(missing)
        return found, missing

    def _report_missing(self, missing: Iterable[str]) -> None:
        for name in missing:
            self.progress.print(f"not in the backup: {name} is missing from the store, or damaged there")


def artifacts_named(topic: Topic, event: dict[str, Any]) -> dict[str, str]:
    """The sha256 of each artifact that a record names, by its name in the store; may raise for what is no event."""
    data = event["data"]
    if topic in (RunRequested.topic, RunFinished.topic):
        artifact = data.get("artifact")
        name = name_in(artifact["uri"]) if artifact else ""
        return {name: artifact["sha256"]} if is_name(name) else {}
    version = data.get("model") if topic == Decided.topic else data if topic == ModelTrained.topic else None
    if not version:
        return {}
    format_name = version.get("manifest", {}).get("format", DEFAULT_FORMAT)
    name = ArtifactStore.name(event["loop"], version["version"], version["sha256"], format_name)
    return {name: version["sha256"]}


def is_collectable(name: str, states: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the registry's state lets training delete the artifact of this version: then it is not missing."""
    _, loop, file = name.split("/")
    version, state = file.rpartition("-")[0], states.get(loop, {})
    judged = 0 <= Version.parse(version).offset < state.get("judged", -1)
    return bool(state.get("deleted")) or (judged and version not in state.get("kept", ()))


def _find(store: ArtifactStore, name: str) -> bytes | None:
    try:
        return store.get(name)
    except (ArtifactUnavailable, ArtifactCorrupt):
        return None
