"""Where artifacts lie: any file system that fsspec knows, by content, written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from everloop_models.errors import ArtifactUnavailable

NAME_PARTS = 3
"""models / loop / file."""


class ArtifactStore:
    """Puts and gets bytes under `url` (`file:///…`, `s3://…`). Blocks: keep it off the event loop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = url_to_fs(url)

    @staticmethod
    def name(loop: str, version: str, sha256: str) -> str:
        """The name of a version's artifact, by its content: the same bytes have the same name."""
        return f"models/{loop}/{version}-{sha256[:16]}.pkl"

    def put(self, name: str, data: bytes) -> str:
        """Write `data` and return its URI; readers see all of it or nothing. Writing the same twice is harmless.

        Raises ArtifactUnavailable when the disk is full, read-only or away.
        """
        path = f"{self._root.rstrip('/')}/{name}"
        try:
            if isinstance(self._fs, LocalFileSystem):
                write_atomically(Path(path), data)
            else:
                self._fs.pipe_file(path, data)
        except OSError as e:
            raise ArtifactUnavailable(f"cannot write {len(data):,} bytes to {self.url}: {e.strerror or e}") from e
        return str(self._fs.unstrip_protocol(path))

    def get(self, uri: str) -> bytes:
        """The bytes at a URI, or under the same name in this store; raises ArtifactUnavailable where neither works.

        A version's URI is part of the record for good, and a store may move, or be restored elsewhere.
        """
        fs, path = url_to_fs(uri)
        try:
            return bytes(fs.cat_file(path))
        except OSError as e:
            with suppress(OSError):
                return bytes(self._fs.cat_file(f"{self._root.rstrip('/')}/{'/'.join(path.split('/')[-NAME_PARTS:])}"))
            raise ArtifactUnavailable(f"cannot read {uri}: {e.strerror or e}") from e


def write_atomically(path: Path, data: bytes) -> None:
    """Write a local file through a neighbour and a rename, synced, so that a crash leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
