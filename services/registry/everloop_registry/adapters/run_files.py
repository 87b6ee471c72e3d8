"""The files of runs and logged models in the artifact store, below `runs/`, and files of versions as they are read."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from everloop_models import ArtifactUnavailable
from everloop_models.store import remove_leftovers
from everloop_registry.domain.artifact_paths import FileEntry, OpenFile
from everloop_registry.errors import ArtifactNotFound, ArtifactPathRefused
from everloop_shared.file_systems import open_file_system, os_errors

CHUNK_BYTES = 1_000_000
INCOMING = "runs/.incoming"
"""Where a file is written until it is whole."""


class RunFiles:
    """Reads and writes files below the artifact store's URL by names that `artifact_paths` has checked.

    Blocks: keep it off the event loop. Of each file one chunk is in memory. Raises ArtifactUnavailable while the
    store is away. A link is never followed.
    """

    def __init__(self, url: str) -> None:
        self._fs, root = open_file_system(url)
        self._root = root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def entries(self, name: str) -> list[FileEntry]:
        """What a folder holds, by name; nothing where it does not exist, or is a file."""
        with _errors_of(f"list {name}"):
            found = [e for e in self._listed(name) if not (self._local and e.get("islink"))]
            path = self._path(name)
            return sorted(
                FileEntry(e["name"].rstrip("/").rpartition("/")[2], e["type"] == "directory", _size(e))
                for e in found
                if e["name"].rstrip("/") != path
            )

    def count(self, folder: str) -> tuple[int, int]:
        """The files below a folder, and their bytes."""
        with _errors_of(f"list {folder}"):
            self._fs.invalidate_cache()
            sizes = [int(e.get("size") or 0) for e in self._fs.find(self._path(folder), detail=True).values()]
            return len(sizes), sum(sizes)

    def open(self, name: str) -> OpenFile:
        """A file, to be read; raises ArtifactNotFound."""
        with _errors_of(f"read {name}"):
            file = self._open_local(name) if self._local else self._open_remote(name)
            return OpenFile(self._length(file), _chunks(file))

    def write(self, name: str, file: IO[bytes]) -> None:
        """Write a file whole, or not at all; it takes the place of one of the same name."""
        with _errors_of(f"write {name}"):
            self._write_local(name, file) if self._local else self._write_remote(name, file)

    def delete(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it; idempotent."""
        with suppress(ArtifactNotFound), _errors_of(f"delete {name}"):
            if self._local:
                self._require_no_link(Path(self._path(name)))
            self._fs.invalidate_cache()
            self._fs.rm(self._path(name), recursive=True)

    def remove_leftovers(self) -> None:
        """Remove what a crash left half written."""
        if self._local:
            remove_leftovers(Path(self._path(INCOMING)))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _listed(self, name: str) -> list[dict[str, Any]]:
        try:
            self._fs.invalidate_cache()
            if self._local:
                self._require_no_link(Path(self._path(name)))
            return list(self._fs.ls(self._path(name), detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _require_no_link(self, path: Path) -> None:
        root = Path(self._root)
        if path.resolve() != root.resolve() / path.relative_to(root):
            raise ArtifactPathRefused(f"{path.name[:200]!r} in the artifact store is a link, or below one")

    def _open_local(self, name: str) -> IO[bytes]:
        path = Path(self._path(name))
        self._require_no_link(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(name)
        return open(descriptor, "rb")

    def _open_remote(self, name: str) -> IO[bytes]:
        if self._fs.info(self._path(name))["type"] != "file":  # `isfile` is false, too, while the store is away
            raise FileNotFoundError(name)
        file: IO[bytes] = self._fs.open(self._path(name), "rb", cache_type="readahead", block_size=CHUNK_BYTES)
        return file

    def _length(self, file: IO[bytes]) -> int:
        return os.fstat(file.fileno()).st_size if self._local else int(getattr(file, "size", 0))

    def _write_local(self, name: str, file: IO[bytes]) -> None:
        path, incoming = Path(self._path(name)), Path(self._path(INCOMING))
        self._require_no_link(path)
        incoming.mkdir(parents=True, exist_ok=True)
        temporary = incoming / f".{path.name[:80]}.{uuid4().hex}"
        try:
            with temporary.open("xb") as written:
                shutil.copyfileobj(file, written, CHUNK_BYTES)
                written.flush()
                os.fsync(written.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _write_remote(self, name: str, file: IO[bytes]) -> None:
        written = self._fs.open(self._path(name), "wb")
        try:
            shutil.copyfileobj(file, written, CHUNK_BYTES)
            written.close()
        except BaseException:
            with suppress(Exception):  # the reason is why it failed at all
                written.discard()
            raise
        finally:
            written.closed = True  # else it is closed, and so written, once more when it is collected


@contextmanager
def _errors_of(what: str) -> Iterator[None]:
    """Turn what a file system raises into the errors that callers know."""
    try:
        with os_errors():
            yield
    except FileNotFoundError as e:
        raise ArtifactNotFound(f"cannot {what[:300]}: there is no such file") from e
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as e:
        raise ArtifactPathRefused(f"cannot {what[:300]}: a file and a folder have the same name") from e
    except OSError as e:
        raise ArtifactUnavailable(f"cannot {what[:300]} in the artifact store: {e.strerror or e}") from e


def _size(entry: dict[str, Any]) -> int | None:
    return None if entry["type"] == "directory" else int(entry.get("size") or 0)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while True:
            with _errors_of("read on"):
                chunk = file.read(CHUNK_BYTES)
            if not chunk:
                return
            yield chunk
