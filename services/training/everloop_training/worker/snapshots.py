"""Learner snapshots: all loops of a partition at one offset, in one file with its sha256.

Learners of loops with personal fields are encrypted in it. The sha256 finds damage. Where keys are trusted, a snapshot
that none of them has signed is not read. Without, a snapshot from elsewhere cannot run code either, because only the
classes listed in `allowed.txt` are unpickled; one of an older version of Everloop names other classes, and is refused
the same way.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from everloop_models import ArtifactCorrupt, library_versions
from everloop_models.allow_list import read
from everloop_models.artifact import Artifact, verify
from everloop_models.formats import allowed_in_snapshots
from everloop_models.opcodes import Use
from everloop_models.pickling import check, unpickled
from everloop_models.store import remove_leftovers, write_atomically
from everloop_schemas import loop, monitor_spec, monitoring, registry, search, search_spec, training
from everloop_schemas.envelope import ControlData, ControlEvent
from everloop_shared.clock import system_clock
from everloop_shared.errors import InputRejected
from everloop_shared.signing.errors import SignatureRefused
from everloop_training.worker.learners.loop_learner import LoopLearner
from everloop_training.worker.sealed_learners import seal, unseal

if TYPE_CHECKING:
    from everloop_shared.personal import Vault
    from everloop_shared.signing.keys import SigningKey
    from everloop_shared.signing.trust import TrustStore

log = logging.getLogger(__name__)
FORMAT = 19
"""Raised whenever the classes in a snapshot change: an older snapshot is not used, and the log is learned again."""
PAYLOAD = "application/vnd.everloop.snapshot"
"""The type of what is signed of a snapshot: `<partition> <sha256 of the body> <time, RFC 3339>`."""
FILE = Path(__file__).with_name("allowed.txt")
"""What snapshots unpickle beside models and events; `tests/training/snapshot_survey.py` writes it, a test checks it."""


def _events() -> frozenset[Use]:
    """The classes of specs, states and events, which hold values and run nothing when they are unpickled."""
    modules = (loop, monitor_spec, monitoring, registry, search, search_spec, training)
    classes = {c for m in modules for c in vars(m).values() if isinstance(c, type) and issubclass(c, BaseModel)}
    ways = ("name", "new 0", "state dict")
    return frozenset(
        Use(c.__module__, c.__name__, how) for c in classes - {BaseModel, ControlData, ControlEvent} for how in ways
    )


BESIDE_MODELS = allowed_in_snapshots().plus("snapshot", _events())
SNAPSHOTS = BESIDE_MODELS.plus("snapshot", read("snapshot", FILE).uses)


def pack(state: PartitionState, vault: Vault | None = None) -> bytes:
    """A state as the body of a snapshot; raises Unavailable where keys are needed and away."""
    sealed = seal(state.learners, vault, _pickled) if vault is not None else {}
    clear = state._replace(learners={loop: one for loop, one in state.learners.items() if loop not in sealed})
    return _pickled({"format": FORMAT, "libraries": library_versions(), "state": clear, "sealed": sealed})


def _pickled(value: Any) -> bytes:
    return pickle.dumps(value, protocol=5)


class PartitionState(NamedTuple):
    """Every learner of a partition by loop, and the offsets of the next outcome and the next alert to consume."""

    next_offset: int
    next_alert: int
    learners: dict[str, LoopLearner]


class Snapshots:
    """Reads and writes snapshots in a folder. Blocks. One that cannot be used is ignored: the log is learned again."""

    def __init__(
        self,
        folder: Path,
        signer: SigningKey | None = None,
        trust: TrustStore | None = None,
        clock: Callable[[], datetime] = system_clock,
        vault: Vault | None = None,
    ) -> None:
        self._folder, self._signer, self._trust, self._clock, self._vault = folder, signer, trust, clock, vault
        remove_leftovers(folder)

    def final(self, partition: int) -> Path:
        """The path of the snapshot of a partition that counts."""
        return self._folder / f"partition-{partition}.snapshot"

    def write(self, partition: int, state: PartitionState) -> Path:
        """Write a snapshot beside the one that counts; raises OSError when the disk is full, and Unavailable."""
        body = pack(state, self._vault)
        path = self._folder / f"partition-{partition}.{state.next_offset}.new"
        write_atomically(path, self._head(partition, body) + b"\n" + body)
        return path

    def _head(self, partition: int, body: bytes) -> bytes:
        """The first line: the sha256 of the body, and where there is a key, when it was signed and the signature."""
        digest = sha256(body).hexdigest()
        if self._signer is None:
            return digest.encode()
        made = self._clock().isoformat()
        return f"{digest} {made} {self._signer.sign(PAYLOAD, _signed(partition, digest, made))}".encode()

    def _check_head(self, partition: int, head: list[str]) -> None:
        """Raise SignatureRefused where keys are trusted, and the first line has no signature of one for snapshots."""
        if self._trust is None:
            return
        if len(head) != 3:
            raise SignatureRefused("it is not signed")
        digest, made, signature = head
        at = datetime.fromisoformat(made)
        if at.tzinfo is None:
            raise SignatureRefused("the time of its signature cannot be read")
        self._trust.check(signature, PAYLOAD, _signed(partition, digest, made), "snapshots", at)

    def load(self, partition: int, end: int) -> PartitionState:
        """The snapshot that counts, or the empty state. `end` is the end of the log: one beyond it is refused."""
        for leftover in self._folder.glob(f"partition-{partition}.*.new"):
            leftover.unlink(missing_ok=True)
        path = self.final(partition)
        if path.exists():
            try:
                return self._read(path, partition, end)
            except (OSError, ArtifactCorrupt, InputRejected, SignatureRefused, ValueError) as e:
                log.warning("snapshot not used, learning from the log", extra={"path": str(path), "reason": str(e)})
        return PartitionState(0, 0, {})

    def _read(self, path: Path, partition: int, end: int) -> PartitionState:
        line, _, body = path.read_bytes().partition(b"\n")
        head = line.decode("ascii", "replace").split(" ")
        self._check_head(partition, head)
        verify(Artifact(b"", head[0], len(body)), body)
        content: dict[str, Any] = _unpickled(body)
        if content["format"] != FORMAT or content["libraries"] != library_versions():
            raise ValueError("written by another version, or with other libraries")
        state: PartitionState = content["state"]
        if state.next_offset > end:
            raise ValueError(f"it is at offset {state.next_offset}, the log ends at {end}: it is of another log")
        if content["sealed"]:
            if self._vault is None:
                raise ValueError("it is encrypted, and there are no keys")
            opened = unseal(content["sealed"], self._vault)
            state = state._replace(learners=state.learners | {loop: _unpickled(data) for loop, data in opened.items()})
        return state


def _unpickled(body: bytes) -> Any:
    """What a pickle holds, which only classes that snapshots hold may make."""
    check(body, SNAPSHOTS)
    return unpickled(body, SNAPSHOTS)


def _signed(partition: int, digest: str, made: str) -> bytes:
    return f"{partition} {digest} {made}".encode()
