"""The archive's store: small operations on any file system that fsspec knows, each whole or not at all. Blocks."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from everloop_archive.errors import ArchiveUnavailable
from everloop_shared.file_systems import open_file_system, without_credentials


class ArchiveStore:
    """Reads and writes below `url` (`file:///…`, `s3://…`, `gs://…`); paths are relative to it.

    Raises ArchiveUnavailable where the store cannot be reached, is full, or refuses. `url` is without credentials.
    """

    def __init__(self, url: str) -> None:
        self.url = without_credentials(url)
        self.fs, root = open_file_system(url)
        self._root = root.rstrip("/")
        self._local = isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """The path of a name in the file system `fs`."""
        return f"{self._root}/{name}"

    def uri(self, name: str) -> str:
        """The URI of a name, as other programs open it."""
        return str(self.fs.unstrip_protocol(self.path(name)))

    def read(self, name: str) -> bytes | None:
        """The bytes under a name, None where there is nothing."""
        with self._failures("read", name):
            try:
                return bytes(self.fs.cat_file(self.path(name)))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def create(self, name: str, data: bytes) -> bool:
        """Write bytes under a new name; False, and nothing changes, where the name is taken. Atomic."""
        with self._failures("write", name):
            try:
                if self._local:
                    _write_file(Path(self.path(name)), data, os.link)
                else:
                    self.fs.pipe_file(self.path(name), data, mode="create")
            except FileExistsError:
                return False
            except OSError as e:
                if e.errno == errno.EEXIST or _is_refused_condition(e):
                    return False
                raise
            return True

    def write(self, name: str, data: bytes) -> None:
        """Write bytes under a name, in place of what is there. Atomic."""
        with self._failures("write", name):
            if self._local:
                _write_file(Path(self.path(name)), data, os.replace)
            else:
                self.fs.pipe_file(self.path(name), data)

    def delete(self, name: str) -> None:
        """Delete what is under a name, and what a killed writer has left of it; idempotent."""
        with self._failures("delete", name):
            if self._local:
                path = Path(self.path(name))
                for leftover in path.parent.glob(f".{path.name}.*"):
                    leftover.unlink(missing_ok=True)
            try:
                self.fs.rm_file(self.path(name))
            except FileNotFoundError:
                return

    def names(self, folder: str) -> list[str]:
        """The names of the files and folders in a folder, without it, in order."""
        with self._failures("list", folder):
            try:
                self.fs.invalidate_cache()
                entries = self.fs.ls(self.path(folder), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
            found = {entry.rstrip("/").rpartition("/")[2] for entry in entries}
            return sorted(name for name in found if name and not name.startswith("."))

    def open(self, name: str) -> Any:
        """A file that can be read at any place; raises FileNotFoundError."""
        return self.fs.open(self.path(name), "rb")

    def unavailable(self, verb: str, name: str, error: Exception) -> ArchiveUnavailable:
        """What to raise where the store does not let us do something to what is under a name."""
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
        return ArchiveUnavailable(f"cannot {verb} {name} in the archive at {self.url}: {reason}")

    @contextmanager
    def _failures(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as e:  # each file system has its own errors: botocore's, aiohttp's, Google's, OSError
            raise self.unavailable(verb, name, e) from e


def _is_refused_condition(error: OSError) -> bool:
    """Whether S3 or Google Cloud Storage refused a write because the name is taken (status 412 or 409)."""
    text = f"{error.__cause__!r} {error!r}"
    return any(word in text for word in ("PreconditionFailed", "ConditionalRequestConflict", "conditionNotMet"))


def _write_file(path: Path, data: bytes, place: Any) -> None:
    """Write a synced temporary file beside `path` and let `place` give it its name; a crash leaves all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
