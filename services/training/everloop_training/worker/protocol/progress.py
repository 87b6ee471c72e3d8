"""The outcome that the worker is learning, in a file that the service reads once the worker has exited."""

from __future__ import annotations

import logging
from mmap import mmap
from pathlib import Path
from struct import Struct

log = logging.getLogger(__name__)
_PARTITION_AND_OFFSET = Struct("qq")
NOTHING = -1
SNAPSHOT = -2
"""In place of an offset: the partition's snapshot is being loaded."""


class OutcomeInProgress:
    """Partition and offset, 16 bytes: in a file they outlive the process, without one they are in memory only.

    Writing costs a third of a microsecond, so it is done before each line learns.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._bytes: mmap | bytearray = bytearray(_PARTITION_AND_OFFSET.size)
        if file is not None:
            try:
                file.write_bytes(_PARTITION_AND_OFFSET.pack(NOTHING, NOTHING))
                with file.open("r+b") as opened:
                    self._bytes = mmap(opened.fileno(), _PARTITION_AND_OFFSET.size)
            except OSError as e:
                reason = {"file": str(file), "reason": str(e)}
                log.warning("an exit of the worker will name no outcome: its file cannot be written", extra=reason)
        self.clear()

    def mark(self, partition: int, offset: int) -> None:
        """This outcome is in progress from now on."""
        _PARTITION_AND_OFFSET.pack_into(self._bytes, 0, partition, offset)

    def clear(self) -> None:
        """Nothing is in progress."""
        _PARTITION_AND_OFFSET.pack_into(self._bytes, 0, NOTHING, NOTHING)

    @property
    def current(self) -> tuple[int, int] | None:
        """Partition and offset of the outcome in progress, None where there is none."""
        return _parse(bytes(self._bytes))


def read_in_progress(file: Path) -> tuple[int, int] | None:
    """What a worker that has exited had in progress; None where it had nothing, or could not write it down."""
    try:
        return _parse(file.read_bytes())
    except OSError:
        return None


def _parse(content: bytes) -> tuple[int, int] | None:
    if len(content) != _PARTITION_AND_OFFSET.size:
        return None
    partition, offset = _PARTITION_AND_OFFSET.unpack(content)
    return None if partition == NOTHING else (partition, offset)
