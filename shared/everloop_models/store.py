"""The artifact store, on any file system that fsspec knows: names follow from content, writes are atomic."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from everloop_models.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnavailable
from everloop_models.formats import DEFAULT_FORMAT, EXTENSIONS, extension_of
from everloop_schemas.names import is_loop_name, is_version_name
from everloop_shared.file_systems import open_file_system, os_errors, without_credentials

MAX_ARTIFACT_BYTES = 200_000_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EXTENSION = "|".join(EXTENSIONS.values())
_NAME = re.compile(rf"models/([^/]+)/([^/]+)-[0-9a-f]{{16}}\.(?:{_EXTENSION})")
LEFTOVER = re.compile(r"\.[0-9a-f]{32}")
LEFTOVER_AGE_S = 60.0


class ArtifactStore:
    """Reads and writes bytes below `url` (`file:///…`, `s3://…`, `gs://…`), and nowhere else.

    Nothing of more than `max_bytes` is read. Blocks, for two minutes where a store does not answer: keep it off the
    event loop.
    """

    def __init__(self, url: str, max_bytes: int = MAX_ARTIFACT_BYTES) -> None:
        self.url, self._max_bytes = without_credentials(url), max_bytes
        self._fs, self._root = open_file_system(url)
        self.local = isinstance(self._fs, LocalFileSystem)

    @staticmethod
    def name(loop: str, version: str, sha256: str, format_name: str = DEFAULT_FORMAT) -> str:
        """The name of a version's artifact, which follows from its content: the same bytes have the same name.

        Raises ArtifactCorrupt for a malformed loop, version or sha256, FormatUnavailable for an unknown format.
        """
        name = f"models/{loop}/{version}-{sha256[:16]}.{extension_of(format_name)}"
        if not _SHA256.fullmatch(sha256) or not is_name(name):
            raise ArtifactCorrupt(f"version {version!r:.80} of {loop!r:.80} has no name in an artifact store")
        return name

    def named(self, uri: str, loop: str, version: str, sha256: str, format_name: str = DEFAULT_FORMAT) -> str:
        """The name of the artifact that a record names by URI; raises ArtifactCorrupt where the URI has another name.

        Records stay for ever and a store may move, so only the name at the end of the URI counts, and the URI is never
        followed. A URI on another kind of store than this is refused.
        """
        name = self.name(loop, version, sha256, format_name)
        scheme, _, path = uri.rpartition("://")
        protocols = self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        if uri != name and not (scheme in ("file", *protocols) and path.endswith(f"/{name}")):
            raise ArtifactCorrupt(f"its artifact has the URI {uri!r:.100}, which is not its place in the store")
        return name

    def put(self, name: str, data: bytes) -> str:
        """Write `data` and return its URI. Atomic and idempotent.

        Raises ArtifactUnavailable where the disk is full, read-only or cannot be reached.
        """
        path = self._path(name)
        try:
            if self.local:
                write_atomically(Path(path), data)
            else:
                with os_errors():
                    self._fs.pipe_file(path, data)
        except OSError as e:
            raise ArtifactUnavailable(f"cannot write {len(data):,} bytes to {self.url}: {e.strerror or e}") from e
        return str(self._fs.unstrip_protocol(path))

    def get(self, name: str, size: int = 0) -> bytes:
        """The bytes under a name, `size` of them where it is known.

        Raises ArtifactMissing where there are none, ArtifactUnavailable where the store cannot be reached,
        ArtifactCorrupt for anything but a plain file of that size inside the store.
        """
        if not 0 <= size <= self._max_bytes:
            raise ArtifactCorrupt(f"{name} is announced with {size:,} bytes; at most {self._max_bytes:,} are read")
        try:
            with os_errors():
                return self._read_local(name, size) if self.local else self._read_remote(name, size)
        except OSError as e:
            error = ArtifactMissing if isinstance(e, FileNotFoundError) else ArtifactUnavailable
            raise error(f"cannot read {name} in the artifact store: {e.strerror or e}") from e

    def _path(self, name: str) -> str:
        if not is_name(name):
            raise ArtifactCorrupt(f"{name!r:.100} is no name in an artifact store")
        return f"{self._root.rstrip('/')}/{name}"

    def _read_local(self, name: str, size: int) -> bytes:
        path = Path(self._root).resolve() / self._path(name).removeprefix(self._root.rstrip("/") + "/")
        if path.resolve(strict=True) != path:
            raise ArtifactCorrupt(f"{name} in the artifact store is a link")
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise ArtifactCorrupt(f"{name} in the artifact store is no plain file")
            return self._read_whole(name, size, found.st_size, lambda most: open(file, "rb", closefd=False).read(most))
        finally:
            os.close(file)

    def _read_remote(self, name: str, size: int) -> bytes:
        path = self._path(name)
        found = self._fs.info(path)
        if found.get("type") != "file" or not isinstance(found.get("size"), int):
            raise ArtifactCorrupt(f"{name} in the artifact store is no file")
        size_there: int = found["size"]
        return self._read_whole(name, size, size_there, lambda most: bytes(self._fs.cat_file(path, start=0, end=most)))

    def _read_whole(self, name: str, size: int, found_size: int, read: Callable[[int], bytes]) -> bytes:
        if found_size > self._max_bytes or (size and found_size != size):
            raise ArtifactCorrupt(f"{name} in the artifact store has not as many bytes as were announced")
        data = read(found_size)
        if len(data) != found_size:
            raise ArtifactCorrupt(f"{name} in the artifact store changed while it was read")
        return data

    def loops(self) -> list[str]:
        """The loops that have artifacts in the store; raises ArtifactUnavailable."""
        return [entry["name"].rstrip("/").rpartition("/")[2] for entry in self._listed("models")]

    def files(self, loop: str) -> list[tuple[str, int, float]]:
        """Each file of a loop: its name in the store, its bytes, and its age in seconds; raises ArtifactUnavailable."""
        entries = [e for e in self._listed(f"models/{loop}") if e["type"] == "file"]
        return [(f"models/{loop}/{e['name'].rpartition('/')[2]}", int(e["size"] or 0), _age_s(e)) for e in entries]

    def delete(self, name: str) -> None:
        """Delete a file; idempotent. Raises ArtifactUnavailable."""
        try:
            with suppress(FileNotFoundError), os_errors():
                self._fs.rm_file(f"{self._root.rstrip('/')}/{name}")
        except OSError as e:
            raise ArtifactUnavailable(f"cannot delete {name} from {self.url}: {e.strerror or e}") from e

    def _listed(self, name: str) -> list[dict[str, Any]]:
        try:
            with os_errors():
                self._fs.invalidate_cache()
                return list(self._fs.ls(f"{self._root.rstrip('/')}/{name}", detail=True))
        except FileNotFoundError:
            return []
        except OSError as e:
            raise ArtifactUnavailable(f"cannot list {name} in {self.url}: {e.strerror or e}") from e


def name_in(uri: str) -> str:
    """The name at the end of a URI that `put` returned; `get` refuses anything that is no name."""
    return "/".join(uri.split("/")[-3:])


def is_name(name: str) -> bool:
    """Whether this is the name of an artifact: made of a loop, a version and the beginning of a sha256."""
    found = _NAME.fullmatch(name)
    return found is not None and is_loop_name(found[1]) and is_version_name(found[2])


def _age_s(entry: dict[str, Any]) -> float:
    """Seconds since a file was written, 0 where the file system does not say."""
    at = entry.get("mtime") or entry.get("LastModified") or entry.get("created")
    if isinstance(at, datetime):
        at = at.timestamp()
    return max(0.0, time.time() - at) if isinstance(at, int | float) else 0.0


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of `write_atomically` that a crash left in a folder, `LEFTOVER_AGE_S` ago or more."""
    for path in folder.glob(".*"):
        if LEFTOVER.fullmatch(path.suffix) and time.time() - path.stat().st_mtime > LEFTOVER_AGE_S:
            path.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a local file through a temporary one, synced and renamed: a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
