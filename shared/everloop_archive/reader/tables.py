"""The tables of an archive as readers see them: files and positions, read again only where commits were made since."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock

from everloop_archive.errors import ArchiveCorrupt
from everloop_archive.layout import LOG, TableName, commit_path
from everloop_archive.reader.file_records import FileRecords
from everloop_archive.reader.merged import Batch, merged
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import DataFile, TableLog, TableState, added

_COMMIT = re.compile(r"(\d{20})\.json")


class ArchivedTable:
    """One table: what its log says, up to the commit that was read last. Blocks; several threads may call it."""

    def __init__(self, store: ArchiveStore, name: TableName) -> None:
        self.store, self.name, self.log = store, name, TableLog(store, name)
        self.state = TableState()
        self._files: dict[str, DataFile] = {}
        self._lock = Lock()

    def refresh(self) -> None:
        """Read the commits that were made since; raises ArchiveUnavailable, ArchiveCorrupt."""
        with self._lock, self._named_commit():
            if self.state.version < 0:
                self._load()
            for version, actions in self.log.commits_after(self.state.version):
                if any("remove" in action for action in actions):
                    raise ValueError("it removes files, which no writer of the archive does")
                state = self.state.after(actions, version)
                self._add(added(actions))
                self.state = state

    def files(self, partition: int | None = None) -> list[DataFile]:
        """The data files, of one partition or of all, in the order of their offsets."""
        with self._lock:
            found = [f for f in self._files.values() if partition is None or f.name.partition == partition]
        return sorted(found, key=lambda f: (f.name.partition, f.name.first, f.name.last))

    def commits(self, start: int) -> Iterator[tuple[int, list[DataFile]]]:
        """The commits from `start` up to the one that was read last, each with its files."""
        for version in range(start, self.state.version + 1):
            with self._named_commit(version):
                actions = self.log.commit_at(version)
                if actions is None:
                    raise ValueError("it is missing")
                files = added(actions)
            yield version, files

    def position(self, partition: int) -> int:
        """The offset after the last one of a partition that it has, 0 where it has none."""
        return self.log.position(self.state, partition)

    def sources(self, partition: int, start: int = 0) -> list[FileRecords]:
        """The files that have records of a partition from the offset `start` on."""
        found = (file for file in self.files(partition) if file.name.last >= start)
        return [FileRecords(self.store, self.name.folder, file, start) for file in found]

    def records(self, partition: int, start: int) -> Generator[Batch, None, None]:
        """The records of a partition from the offset `start` on, in order."""
        return merged(self.sources(partition, start))

    def _load(self) -> None:
        """Read it for the first time. A commit that is missing would look like the end of the log."""
        last = self._last_commit()
        state, files = self.log.read_with_files()
        if state.version < last:
            missing = f"{self.name.folder}/{commit_path(state.version + 1)}"
            raise ArchiveCorrupt(f"{missing} in the archive at {self.store.url} is missing, but later commits are not")
        self._add(files)
        self.state = state

    def _last_commit(self) -> int:
        names = self.store.names(f"{self.name.folder}/{LOG}")
        return max((int(found[1]) for name in names if (found := _COMMIT.fullmatch(name))), default=-1)

    def _add(self, files: Iterable[DataFile]) -> None:
        self._files |= {file.name.path: file for file in files}

    @contextmanager
    def _named_commit(self, version: int | None = None) -> Iterator[None]:
        """What is wrong with a commit, by default the next one, becomes an error that names it."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            at = f"{self.name.folder}/{commit_path(self.state.version + 1 if version is None else version)}"
            raise ArchiveCorrupt(f"{at} in the archive at {self.store.url} cannot be read: {e!r}") from e
