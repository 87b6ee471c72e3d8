"""Which files of a table are loaded together, and in which order; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from everloop_archive.table_log import DataFile

MAX_FILES, MAX_BYTES = 1_000, 256_000_000
"""The most of one load job; a group of files that has more is a job of its own."""


class Group(NamedTuple):
    """The files of a partition whose offsets interleave: loaded all or not at all, or MAX(offset) would not tell."""

    partition: int
    files: tuple[DataFile, ...]

    @property
    def first(self) -> int:
        """The first offset."""
        return min(file.name.first for file in self.files)

    @property
    def last(self) -> int:
        """The last offset."""
        return max(file.name.last for file in self.files)


class Overlap(Exception):
    """A table's offsets of a partition end within a group of files: it was not loaded by this program."""


def groups(files: Iterable[DataFile]) -> list[Group]:
    """The files, grouped, in order of partitions and offsets."""
    found: list[Group] = []
    for file in sorted(files, key=lambda f: (f.name.partition, f.name.first)):
        if found and found[-1].partition == file.name.partition and file.name.first <= found[-1].last:
            found[-1] = Group(file.name.partition, (*found[-1].files, file))
        else:
            found.append(Group(file.name.partition, (file,)))
    return found


def batches(found: Iterable[Group], loaded: Mapping[int, int]) -> Iterator[list[DataFile]]:
    """The files of each load job, in order: what comes after the offset `loaded` of its partition. Raises Overlap."""
    batch: list[DataFile] = []
    for group in found:
        done = loaded.get(group.partition, -1)
        if group.last <= done:
            continue
        if group.first <= done:
            raise Overlap(f"partition {group.partition} ends with offset {done}, within {group.first} to {group.last}")
        files, size = len(batch) + len(group.files), sum(f.size for f in (*batch, *group.files))
        if batch and (files > MAX_FILES or size > MAX_BYTES):
            yield batch
            batch = []
        batch += group.files
    if batch:
        yield batch
