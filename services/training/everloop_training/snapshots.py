"""Learner snapshots: all loops of a partition at one offset, in one file with its sha256."""

from __future__ import annotations

import logging
import pickle
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from everloop_models import ArtifactCorrupt, library_versions
from everloop_models.pickling import load_verified
from everloop_models.store import write_atomically
from everloop_training.domain.learner import LoopLearner

log = logging.getLogger(__name__)
FORMAT = 5
_ALSO = ("everloop_training", "everloop_schemas", "everloop_shared", "pydantic", "pydantic_core")


class PartitionState(NamedTuple):
    """Every learner of a partition, with the next outcome to learn and the next alert to hear, as offsets."""

    next_offset: int
    next_alert: int
    learners: dict[str, LoopLearner]


class Snapshots:
    """Reads and writes snapshots in a folder. Blocks. One that cannot be used is as good as none: the log is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def final(self, partition: int) -> Path:
        """Where the snapshot of a partition lies once it counts."""
        return self._folder / f"partition-{partition}.snapshot"

    def write(self, partition: int, state: PartitionState) -> Path:
        """Write a snapshot beside the one that counts; raises OSError when the disk is full."""
        body = pickle.dumps({"format": FORMAT, "libraries": library_versions(), "state": state}, protocol=5)
        path = self._folder / f"partition-{partition}.{state.next_offset}.new"
        write_atomically(path, sha256(body).hexdigest().encode() + b"\n" + body)
        return path

    def load(self, partition: int, end: int) -> PartitionState:
        """The snapshot that counts, or the empty state. `end` is where the log ends: a longer one is another log's."""
        for leftover in self._folder.glob(f"partition-{partition}.*.new"):
            leftover.unlink(missing_ok=True)
        path = self.final(partition)
        if path.exists():
            try:
                return self._read(path, end)
            except (OSError, ArtifactCorrupt, ValueError) as e:
                log.warning("snapshot not used, learning from the log", extra={"path": str(path), "reason": str(e)})
        return PartitionState(0, 0, {})

    def _read(self, path: Path, end: int) -> PartitionState:
        digest, _, body = path.read_bytes().partition(b"\n")
        content: dict[str, Any] = load_verified(body, digest.decode("ascii", "replace"), _ALSO)
        if content["format"] != FORMAT or content["libraries"] != library_versions():
            raise ValueError("written by another version, or with other libraries")
        state: PartitionState = content["state"]
        if state.next_offset > end:
            raise ValueError(f"it is at offset {state.next_offset}, the log ends at {end}: another log's")
        return state
