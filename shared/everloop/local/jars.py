"""Apache Kafka's jars: downloaded once per user, each checked against the lock file, also by two processes at once."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from everloop.local.errors import FolderNotWritable, KafkaNotFetched

if TYPE_CHECKING:
    from jgo.maven import MavenContext

VERSION = "4.1.0"
LOCK = Path(__file__).with_name(f"kafka-{VERSION}.lock")
PARALLEL_DOWNLOADS = 6
DOWNLOAD_ATTEMPTS = 3
DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
}
FIX = (
    "Download it while there is a connection (everloop kafka fetch), name a mirror of the Maven repository"
    " in EVERLOOP_MAVEN_REPOSITORY, or use a cluster of your own (everloop up --kafka HOST:PORT)."
)


@dataclass(frozen=True)
class Jar:
    """One line of the lock: what the broker's class path needs, byte for byte."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def is_whole(self, path: Path) -> bool:
        """Whether the file at this path is this jar (size, then sha256)."""
        try:
            if path.stat().st_size != self.size:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


def read_lock(lock: Path | None = None) -> list[Jar]:
    """Return every jar of a lock, Kafka's by default: `group:artifact:version size sha256` a line."""
    jars = []
    for line in (lock or LOCK).read_text().splitlines():
        coordinate, size, sha256 = line.split()
        group, artifact, version = coordinate.split(":")
        jars.append(Jar(group, artifact, version, int(size), sha256))
    return jars


def cache_folder() -> Path:
    """Return the per-user cache: EVERLOOP_CACHE, else XDG_CACHE_HOME/everloop, else ~/.cache/everloop."""
    if own := os.environ.get("EVERLOOP_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "everloop"


def fetch(
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    *,
    lock: Path | None = None,
    name: str = f"kafka-{VERSION}",
) -> list[Path]:
    """Return the class path, complete and verified; download only what is missing or broken.

    `lock` and `name`, of the folder in the cache, are those of another program in Java than Kafka.
    Blocks (seconds the first time, 0.1 s after). Raises KafkaNotFetched or FolderNotWritable.
    """
    jars, folder = read_lock(lock), cache_folder() / name
    if bad := _missing(jars, folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder, lambda: progress(0, _bytes(jars), "another everloop is fetching it; waiting")):
                bad = _missing(jars, folder)
                _download(bad, folder, jars, progress)
        except OSError as e:
            raise _explain(e, folder) from e
    return [folder / jar.name for jar in jars]


def _bytes(jars: list[Jar]) -> int:
    return sum(jar.size for jar in jars)


def _missing(jars: list[Jar], folder: Path) -> list[Jar]:
    return [jar for jar in jars if not jar.is_whole(folder / jar.name)]


@contextmanager
def _locked(folder: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Hold the folder's file lock; the kernel drops it when its holder dies."""
    with folder.with_name(f"{folder.name}.busy").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(bad: list[Jar], folder: Path, jars: list[Jar], progress: Callable[[int, int, str], None]) -> None:
    if not bad:
        return
    for left in folder.glob("part-*"):  # of a fetch that was killed; we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    total = _bytes(jars)
    done = total - _bytes(bad)
    progress(done, total, f"{len(bad)} of {len(jars)} jars to fetch")
    with (
        tempfile.TemporaryDirectory(prefix="part-", dir=folder) as part,
        ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool,
    ):
        context = _repository(Path(part))
        futures = {pool.submit(_download_one, context, jar, folder): jar for jar in bad}
        try:
            for future in as_completed(futures):
                future.result()
                done += futures[future].size
                progress(done, total, futures[future].name)
        finally:
            pool.shutdown(cancel_futures=True)


def _repository(part: Path) -> MavenContext:
    from jgo.maven import MavenContext  # late: not needed once the jars are downloaded

    mirror = os.environ.get("EVERLOOP_MAVEN_REPOSITORY")
    return MavenContext(
        repo_cache=part, local_repos=[], remote_repos={"mirror": mirror.rstrip("/")} if mirror else None, timeout=30
    )


def _download_one(context: MavenContext, jar: Jar, folder: Path) -> None:
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    problem = ""
    for _ in range(DOWNLOAD_ATTEMPTS):
        try:
            path = artifact.resolve()
        except Exception as e:
            if isinstance(e, OSError) and e.errno in DISK_ERRORS:
                raise
            problem = _reason(e)
            if artifact.cached_path:
                artifact.cached_path.unlink(missing_ok=True)
            continue
        if jar.is_whole(path):
            path.replace(folder / jar.name)
            return
        problem = "the downloaded file is not the one in the lock (its size or sha256 differs)"
        path.unlink()
    raise KafkaNotFetched(f"The package {jar.name} cannot be fetched: {problem}.", FIX)


def _reason(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    if "NameResolution" in text or "Failed to resolve" in text or "gaierror" in text:
        return "the Maven repository's name is not known here (no network?)"
    if "Max retries" in text or "Connection" in text:
        return f"the Maven repository cannot be reached ({type(error).__name__})"
    return text[:300]


def _explain(error: OSError, folder: Path) -> FolderNotWritable | KafkaNotFetched:
    if error.errno in DISK_ERRORS:
        fix = "Make room, or choose another cache folder with EVERLOOP_CACHE."
        return FolderNotWritable(f"The cache folder {folder} cannot be written: {error.strerror}.", fix)
    return KafkaNotFetched(f"Kafka cannot be fetched: {_reason(error)}.", FIX)
