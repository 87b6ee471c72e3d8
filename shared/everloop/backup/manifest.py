"""The manifest: what a backup holds, with the sha256 of every file, so that damage is found before it is put back."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from everloop.backup.errors import BackupDamaged

FILE = "manifest.json"
CHUNK = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class File(_Part):
    """A file of the backup, by its path in it."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, folder: Path, path: str) -> File:
        """Measure a file that is there."""
        return cls(path=path, bytes=(folder / path).stat().st_size, sha256=sha256_of(folder / path))


class Partition(_Part):
    """A partition's records from `start` up to before `end`; `digest` is of what they say."""

    file: File
    start: int
    end: int
    records: int
    digest: str


class TopicLog(_Part):
    """A topic, by its name without prefix."""

    name: str
    compacted: bool
    partitions: list[Partition]


class Artifact(_Part):
    """A model version's artifact, and the name it has in an artifact store."""

    name: str
    file: File


class Manifest(_Part):
    """Everything."""

    format: Literal[1] = 1
    made: AwareDatetime
    topic_prefix: str
    partitions: int
    topics: list[TopicLog]
    artifacts: list[Artifact]
    snapshots: list[File]
    missing: list[str] = []
    """Artifacts that the log names and the store had lost already."""

    def files(self) -> list[File]:
        """Every file of the backup but the manifest."""
        logs = [partition.file for topic in self.topics for partition in topic.partitions]
        return [*logs, *(a.file for a in self.artifacts), *self.snapshots]

    def records(self) -> int:
        """How many records there are, all topics together."""
        return sum(p.records for topic in self.topics for p in topic.partitions)


def read(folder: Path) -> Manifest:
    """The manifest of a backup; raises BackupDamaged where there is none that can be read."""
    try:
        return Manifest.model_validate_json((folder / FILE).read_bytes())
    except FileNotFoundError as e:
        fix = "Name the folder that `everloop backup` wrote."
        raise BackupDamaged(f"{folder} is no backup: it has no {FILE}.", fix) from e
    except (OSError, ValidationError) as e:
        raise BackupDamaged(f"{folder / FILE} cannot be read: {e}", "Use another backup.") from e


def check(folder: Path, file: File) -> None:
    """Raises BackupDamaged unless the file is there, whole and unchanged."""
    path = folder / file.path
    try:
        same = path.stat().st_size == file.bytes and sha256_of(path) == file.sha256
    except OSError as e:
        raise BackupDamaged(f"{path} cannot be read: {e.strerror}.", "Use another backup.") from e
    if not same:
        raise BackupDamaged(f"{path} is not what it was when the backup was made.", "Use another backup.")


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    whole = sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            whole.update(chunk)
    return whole.hexdigest()
