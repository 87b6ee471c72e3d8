"""The stored bytes of a version, and the check that they are the announced ones."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple, Protocol

from everloop_models.errors import ArtifactCorrupt


class Artifact(NamedTuple):
    """A saved model: its bytes, their sha256 in hex, their number."""

    data: bytes
    sha256: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> Artifact:
        """The artifact with these bytes."""
        return cls(data, sha256(data).hexdigest(), len(data))


class AnnouncedArtifact(Protocol):
    """What a record says of an artifact."""

    @property
    def sha256(self) -> str | None: ...
    @property
    def size(self) -> int: ...


def verify(announced: AnnouncedArtifact, data: bytes) -> None:
    """Raises ArtifactCorrupt unless these are the bytes that the record announced.

    Bytes and digest come from whoever can write to the store and to Kafka; who that was, `Seals.check` says before.
    """
    if announced.size not in (0, len(data)):  # 0: an early release announced no size
        raise ArtifactCorrupt(f"it has {len(data):,} bytes, announced were {announced.size:,}: not loaded")
    if (actual := sha256(data).hexdigest()) != announced.sha256:
        raise ArtifactCorrupt(f"sha256 is {actual[:16]}, expected {str(announced.sha256)[:16]}: not loaded")
