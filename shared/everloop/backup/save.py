"""Makes a backup of an installation that may go on working meanwhile."""

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

from everloop.backup import manifest
from everloop.backup.cut import ARTIFACTS_IN, DECISIONS, EFFECTS_FIRST, Ends, cut, untold
from everloop.backup.errors import BackupExists, BackupFailed
from everloop.backup.logs import LogReader, kafka_speaks
from everloop.backup.manifest import Artifact, File, Manifest, Partition, TopicLog
from everloop.backup.progress import Meter
from everloop.backup.records import LogRecord, digest
from everloop.backup.settings import BackupSettings
from everloop.local.errors import InstallationNotFound
from everloop_learning.version import Version
from everloop_models import ArtifactCorrupt, ArtifactUnavailable
from everloop_models.store import ArtifactStore, write_atomically
from everloop_schemas.envelope import Topic
from everloop_schemas.registry import Decided, LoopState

LEVEL = 3
TRIES = 10
TRY_AGAIN_S = 0.5
CUT_BETWEEN = (
    "the log has the last decision of {} and not the state after it: is the registry down? "
    "After a restore its services hear of that decision with the next one."
)


async def back_up(settings: BackupSettings, target: Path, meter: Meter) -> Manifest:
    """Write the backup beside its place and rename it once it is whole, so that there is all of it or nothing.

    The order (decision 0082): snapshots, then the ends of the logs, effects before causes, then the records, then
    the artifacts that they name. Raises InstallationError.
    """
    check_target(target)
    beside = target.parent / f".{target.name}.partial-{os.getpid()}"
    try:
        beside.mkdir(parents=True)
        async with kafka_speaks(settings), LogReader(settings) as reader:
            made = await _Backup(settings, beside, reader, meter).make()
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
class _Backup:
    settings: BackupSettings
    folder: Path
    reader: LogReader
    meter: Meter
    named: dict[str, str] = field(default_factory=dict)
    """Artifacts that the log names: name in the store to sha256."""
    sequences: dict[str, dict[str, int]] = field(default_factory=dict)
    """By topic of the registry: each loop's last sequence."""
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The data of each loop's last state."""

    async def make(self) -> Manifest:
        snapshots = self._snapshots()
        there = [topic for topic in EFFECTS_FIRST if topic.name in self.reader.names]
        if Decided.topic not in there:
            where = f"Kafka at {self.settings.kafka_bootstrap}"
            fix = "Set EVERLOOP_TOPIC_PREFIX if the installation uses one, or name its cluster with --kafka."
            raise InstallationNotFound(f"There is no installation on {where}: no topic {Decided.topic.name}.", fix)
        ends, logs = await self._decisions(there)
        starts = await self.reader.starts(there)
        rest = [topic for topic in there if topic not in DECISIONS]
        self.meter.stage("topics", sum(max(0, ends[tp] - starts[tp]) for tp in ends))
        logs += [await self._topic(topic, ends, starts) for topic in rest]
        artifacts, missing = self._artifacts()
        made = Manifest(
            made=datetime.now(UTC),
            topic_prefix=self.settings.topic_prefix,
            partitions=1 + max(partition for _, partition in ends),
            topics=logs,
            artifacts=artifacts,
            snapshots=snapshots,
            missing=missing,
        )
        write_atomically(self.folder / manifest.FILE, made.model_dump_json(indent=1).encode())
        return made

    def _snapshots(self) -> list[File]:
        """First, so that the log goes at least as far as what was learned from it."""
        files = sorted(self.settings.snapshots.glob("*.snapshot"))
        for file in files:
            write_atomically(self.folder / "snapshots" / file.name, file.read_bytes())
        return [File.of(self.folder, f"snapshots/{file.name}") for file in files]

    async def _decisions(self, there: list[Topic]) -> tuple[Ends, list[TopicLog]]:
        """Cut, and read the decisions and states; again when the cut fell between a decision and its state."""
        for attempt in range(TRIES):
            made = await cut(self.reader.ends, there)
            starts = await self.reader.starts(there)
            self.sequences.clear()
            logs = [await self._topic(topic, made.ends, starts) for topic in DECISIONS if topic in there]
            decided, states = (self.sequences.get(topic.name, {}) for topic in (Decided.topic, LoopState.topic))
            loop = untold(decided, states)
            if loop is None:
                return made.ends, logs
            if attempt == TRIES - 1:
                self.meter.say(CUT_BETWEEN.format(loop))
            await asyncio.sleep(TRY_AGAIN_S)
        return made.ends, logs

    async def _topic(self, topic: Topic, ends: Ends, starts: Ends) -> TopicLog:
        partitions = sorted(p for name, p in ends if name == topic.name)
        parts = [await self._partition(topic, p, starts[topic.name, p], ends[topic.name, p]) for p in partitions]
        return TopicLog(name=topic.name, compacted=topic.compacted, partitions=parts)

    async def _partition(self, topic: Topic, partition: int, start: int, end: int) -> Partition:
        path = f"topics/{topic.name}/{partition}.jsonl.gz"
        whole, records = digest(topic.compacted), 0
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (self.folder / path).open("wb") as file:
            with gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed:
                if start < end:
                    async for record in self.reader.read(topic.name, partition, end):
                        packed.write(record.line())
                        whole.add(record)
                        records += 1
                        self._heed(topic, record)
                        self.meter.step()
            file.flush()
            os.fsync(file.fileno())
        whole_file = File.of(self.folder, path)
        return Partition(file=whole_file, start=start, end=end, records=records, digest=whole.hex())

    def _heed(self, topic: Topic, record: LogRecord) -> None:
        """Note the artifacts that versions name, and how far each loop's decisions and states go."""
        if record.value is None or topic not in (*DECISIONS, ARTIFACTS_IN):
            return
        with suppress(ValueError, KeyError, TypeError, AttributeError, ArtifactCorrupt):  # no event: it names nothing
            event = json.loads(record.value)
            if topic == ARTIFACTS_IN:
                data = event["data"]
                self.named[ArtifactStore.name(event["loop"], data["version"], data["sha256"])] = data["sha256"]
            else:
                sequence = event["sequence"] if topic == Decided.topic else event["data"]["sequence"]
                self.sequences.setdefault(topic.name, {})[event["loop"]] = sequence
                if topic == LoopState.topic:
                    self.states[event["loop"]] = event["data"]

    def _artifacts(self) -> tuple[list[Artifact], list[str]]:
        """Last, so that every version on the log has its artifact."""
        store, found, missing = (
            ArtifactStore(self.settings.artifact_url, self.settings.max_artifact_bytes),
            list[Artifact](),
            list[str](),
        )
        self.meter.stage("artifacts", len(self.named))
        for name, expected in sorted(self.named.items()):
            data = _fetched(store, name)
            if data is None and collected(name, self.states):
                self.meter.step()
                continue
            if data is None or sha256(data).hexdigest() != expected:
                missing.append(name)
            else:
                write_atomically(self.folder / "artifacts" / name, data)
                found.append(Artifact(name=name, file=File.of(self.folder, f"artifacts/{name}")))
            self.meter.step()
        self._tell_missing(missing)
        return found, missing

    def _tell_missing(self, missing: Iterable[str]) -> None:
        for name in missing:
            self.meter.say(f"not in the backup: {name} is gone from the store, or damaged there")


def collected(name: str, states: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the registry had said of a version that its artifact may go, so that nothing is missing without it."""
    _, loop, file = name.split("/")
    version, state = file.rpartition("-")[0], states.get(loop, {})
    judged = 0 <= Version.parse(version).offset < state.get("judged", -1)
    return bool(state.get("deleted")) or (judged and version not in state.get("kept", ()))


def _fetched(store: ArtifactStore, name: str) -> bytes | None:
    try:
        return store.get(name)
    except (ArtifactUnavailable, ArtifactCorrupt):
        return None
