"""Records of several files in the order of the log."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from everloop_archive.errors import ArchiveCorrupt
from everloop_archive.reader.merged import Batch, StoredRecord, merged


@dataclass
class File:
    """A data file in memory; `opened` counts how often it was."""

    offsets: list[int]
    name: str = "file"
    opened: int = 0

    @property
    def first(self) -> int:
        """Its first offset."""
        return self.offsets[0]

    def batches(self) -> Iterator[Batch]:
        """Three records at a time."""
        self.opened += 1
        for at in range(0, len(self.offsets), 3):
            yield [StoredRecord(offset, 0, b"%d" % offset) for offset in self.offsets[at : at + 3]]


def offsets(files: list[File]) -> list[int]:
    return [record.offset for batch in merged(files) for record in batch]


@pytest.mark.parametrize("seed", range(20))
def test_however_records_lie_in_files_they_come_in_order(seed: int) -> None:
    rng = random.Random(seed)
    files = [File([]) for _ in range(rng.randrange(1, 8))]
    for offset in range(200):
        rng.choice(files[: 1 + offset * len(files) // 200]).offsets.append(offset)

    assert offsets([file for file in files if file.offsets]) == list(range(200))


def test_a_file_is_opened_when_its_first_record_is_next() -> None:
    first, later = File([0, 1, 2, 3]), File([7, 8])
    reading = merged([later, first])

    next(reading)

    assert (first.opened, later.opened) == (1, 0)


def test_the_same_record_in_two_files_is_an_error_that_names_one() -> None:
    with pytest.raises(ArchiveCorrupt, match="second holds the record at offset 2"):
        offsets([File([0, 1, 2], "first"), File([2, 3], "second")])


def test_no_file_has_no_records() -> None:
    assert offsets([]) == []
