"""The manifest: the contents of a backup, with the sha256 of every file, so that a restore finds damage first."""

from __future__ import annotations

import os
import stat
from collections import Counter
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from everloop.backup.errors import BackupDamaged, BackupUntrusted
from everloop_models.store import is_name, write_atomically
from everloop_shared.signing.errors import SignatureRefused

if TYPE_CHECKING:
    from everloop_shared.signing.keys import SigningKey
    from everloop_shared.signing.trust import TrustStore

FILE, SIGNATURE, KEYS_FILE = "manifest.json", "manifest.json.sig", "personal/keys.jsonl"
CHUNK_BYTES = 1 << 20
MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES = 500_000_000, 100_000
MAX_FILE_BYTES = 1 << 50
SHA256 = r"^[0-9a-f]{64}$"
PATH = "|".join(  # the paths of files in a backup: nothing else is read
    (
        r"^topics/[a-z0-9_.]+/[0-9]{1,4}\.jsonl\.gz$",
        r"^artifacts/models/[a-z0-9_-]+/[a-z0-9@._-]+\.(pkl|onnx)$",
        r"^snapshots/partition-[0-9]{1,4}\.snapshot$",
        r"^personal/keys\.jsonl$",
    )
)
Offset = Annotated[int, Field(ge=0, lt=1 << 63)]


class _Frozen(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)


class BackupFile(_Frozen):
    """A file of the backup, by its path in it."""

    path: Annotated[str, Field(pattern=PATH)]
    bytes: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES)]
    sha256: Annotated[str, Field(pattern=SHA256)]

    @classmethod
    def of(cls, folder: Path, path: str) -> BackupFile:
        """The entry of a file in the folder."""
        return cls(path=path, bytes=(folder / path).stat().st_size, sha256=sha256_of(folder / path))


class PartitionLog(_Frozen):
    """A partition's records from `start` up to before `end`, and their digest."""

    file: BackupFile
    start: Offset
    end: Offset
    records: Offset
    digest: Annotated[str, Field(pattern=SHA256)]


class TopicLog(_Frozen):
    """A topic, by its name without prefix."""

    name: str
    compacted: bool
    partitions: list[PartitionLog]


class BackupArtifact(_Frozen):
    """A model version's artifact, and the name it has in an artifact store."""

    name: str
    file: BackupFile


class SavedKeys(_Frozen):
    """The keys of personal values, wrapped, and the ids of the master keys that open them, which no backup has."""

    file: BackupFile
    keys: Offset
    masters: list[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]]


class BackupManifest(_Frozen):
    """The contents of a backup."""

    format: Literal[1] = 1
    made: AwareDatetime
    topic_prefix: str
    partitions: Annotated[int, Field(ge=1, le=1_000)]
    topics: list[TopicLog]
    artifacts: list[BackupArtifact]
    snapshots: list[BackupFile]
    missing: list[str] = []
    """Artifacts that the log names and that were missing from the store."""
    personal: SavedKeys | None = None
    lacks_keys_of: list[str] = []
    """Loops with personal fields whose keys the backup lacks."""

    def files(self) -> list[BackupFile]:
        """Every file of the backup but the manifest."""
        logs = [partition.file for topic in self.topics for partition in topic.partitions]
        keys = [self.personal.file] if self.personal else []
        return [*logs, *(a.file for a in self.artifacts), *self.snapshots, *keys]

    def records(self) -> int:
        """How many records there are, all topics together."""
        return sum(p.records for topic in self.topics for p in topic.partitions)


def read(folder: Path, trust: TrustStore | None = None) -> BackupManifest:
    """The manifest of a backup; raises BackupDamaged where there is none that can be read.

    Where `trust` is given, raises BackupUntrusted before anything is read of one that no trusted key has signed.
    """
    try:
        data = _read(folder, FILE, MAX_MANIFEST_BYTES)
        if trust is not None:
            _check_signature(folder, data, trust)
        saved = BackupManifest.model_validate_json(data)
        _check_paths(saved)
        return saved
    except FileNotFoundError as e:
        fix = "Name the folder that `everloop backup` wrote."
        raise BackupDamaged(f"{folder} is no backup: it has no {FILE}.", fix) from e
    except (OSError, ValueError) as e:
        raise BackupDamaged(f"{folder / FILE} cannot be used: {_explain(e)}", "Use another backup.") from e


def sign(folder: Path, signer: SigningKey, now: datetime) -> None:
    """Write the signature of the manifest beside it: a DSSE envelope with an in-toto statement about it."""
    from everloop.backup.signature import envelope  # its library is loaded where there is a key

    write_atomically(folder / SIGNATURE, envelope(FILE, _read(folder, FILE, MAX_MANIFEST_BYTES), signer, now))


def _check_signature(folder: Path, data: bytes, trust: TrustStore) -> None:
    from everloop.backup.signature import check_envelope

    fix = "Name a backup that was made with EVERLOOP_SIGNING_KEY, or restore without EVERLOOP_TRUSTED_KEYS."
    try:
        check_envelope(_read(folder, SIGNATURE, MAX_SIGNATURE_BYTES), FILE, data, trust)
    except FileNotFoundError as e:
        raise BackupUntrusted(f"{folder} is not signed: it has no {SIGNATURE}.", fix) from e
    except SignatureRefused as e:
        raise BackupUntrusted(f"{folder / SIGNATURE}: {e.detail}.", fix) from e


def _explain(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, and {error.error_count() - 1} more"


def _check_paths(saved: BackupManifest) -> None:
    """Raises ValueError unless every file has the path that a backup gives it, once."""
    for log in saved.topics:
        expected = [f"topics/{log.name}/{n}.jsonl.gz" for n in range(saved.partitions)]
        if [part.file.path for part in log.partitions] != expected[: len(log.partitions)]:
            raise ValueError(f"{log.name}: the files of its partitions have other paths than a backup gives them")
        if reversed_ends := [n for n, part in enumerate(log.partitions) if part.start > part.end]:
            raise ValueError(f"{log.name}/{reversed_ends[0]} ends before it starts")
    for artifact in saved.artifacts:
        if not is_name(artifact.name) or artifact.file.path != f"artifacts/{artifact.name}":
            raise ValueError(f"{artifact.name!r:.100} is no name of an artifact, or its file has another path")
    if wrong_paths := [file.path for file in saved.snapshots if not file.path.startswith("snapshots/")]:
        raise ValueError(f"{wrong_paths[0]} is no snapshot")
    if saved.personal and saved.personal.file.path != KEYS_FILE:
        raise ValueError(f"{saved.personal.file.path} does not hold keys")
    if twice := [path for path, n in Counter(file.path for file in saved.files()).items() if n > 1]:
        raise ValueError(f"{twice[0]} is listed twice")
    names = [log.name for log in saved.topics]
    if len(set(names)) < len(names):
        raise ValueError("a topic is listed twice")


def open_plain(folder: Path, path: str) -> BinaryIO:
    """Open a plain file of the backup; raises OSError for links, devices, and paths outside the folder."""
    whole = folder.resolve() / path
    if whole.resolve(strict=True) != whole:
        raise OSError(f"{path} is a link")
    file = os.open(whole, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(f"{path} is no plain file")
    return open(file, "rb")


def _read(folder: Path, path: str, most: int) -> bytes:
    with open_plain(folder, path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(f"{path} has more than {most:,} bytes")
        return file.read(most)


def check(folder: Path, file: BackupFile) -> None:
    """Raises BackupDamaged unless the file is there and unchanged."""
    path = folder / file.path
    try:
        with open_plain(folder, file.path) as there:
            same = os.fstat(there.fileno()).st_size == file.bytes and _sha256(there) == file.sha256
    except OSError as e:
        raise BackupDamaged(f"{path} cannot be read: {e.strerror or e}.", "Use another backup.") from e
    if not same:
        raise BackupDamaged(f"{path} has changed since the backup was made.", "Use another backup.")


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return _sha256(file)


def _sha256(file: BinaryIO) -> str:
    whole = sha256()
    while chunk := file.read(CHUNK_BYTES):
        whole.update(chunk)
    return whole.hexdigest()


def contents(folder: Path, file: BackupFile) -> bytes:
    """The bytes of a file of the backup; raises BackupDamaged if it has changed since `check`."""
    try:
        data = _read(folder, file.path, file.bytes)
    except OSError as e:
        raise BackupDamaged(f"{folder / file.path} cannot be read: {e.strerror or e}.", "Use another backup.") from e
    if sha256(data).hexdigest() != file.sha256:
        raise BackupDamaged(f"{folder / file.path} has changed since it was checked.", "Use another backup.")
    return data
