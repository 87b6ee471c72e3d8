"""What serving needs: versions in memory, the spool, its past predictions, personal values, and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from everloop_features import State
from everloop_schemas.envelope import Event
from everloop_schemas.registry import LoopState
from everloop_serving.domain.peer_messages import AnyPeerMessage
from everloop_serving.domain.predict import PredictionResult
from everloop_serving.domain.served_loop import ServedLoop
from everloop_shared.personal.port import PersonalValues

__all__ = [
    "EntityReader",
    "Metrics",
    "Peers",
    "PersonalValues",
    "PredictionHistory",
    "PublishedState",
    "ServedLoops",
    "Spool",
]


class ServedLoops(Protocol):
    """The loops with their versions in memory. Nothing here blocks or raises."""

    def get(self, loop: str) -> ServedLoop | None:
        """The loop as it is served now; None where it is unknown."""

    def is_deleted(self, loop: str) -> bool:
        """Whether the loop existed and was deleted."""

    def apply(self, state: LoopState) -> None:
        """Load the versions that a state names, in the background; each serves as soon as it is in memory.

        A state of a deleted loop, or of a new lifetime, drops all versions loaded before.
        """

    async def wait_loaded(self, loop: str, timeout_s: float) -> None:
        """Wait until no version of the loop is being loaded, `timeout_s` at most."""

    def report_failure(self, loop: ServedLoop, version: str, reason: str) -> None:
        """Report to the registry that a version failed at a prediction, once for each version."""


class Spool(Protocol):
    """Events that wait on local disk to be published.

    `syncs_each` says whether `synced` has anything to wait for.
    """

    @property
    def syncs_each(self) -> bool: ...

    def append(self, events: Sequence[Event]) -> None:
        """Store the events, together or not at all: they survive this process.

        Raises SpoolFull, SpoolUnwritable or RecordTooLarge.
        """

    async def synced(self) -> None:
        """Wait until what was appended survives a power loss too, where the settings ask for it.

        Raises SpoolUnwritable.
        """


class Peers(Protocol):
    """The other workers of this serving, `count` with this one, which is `number`."""

    number: int
    count: int

    async def is_reachable(self, worker: int) -> bool:
        """Whether a worker answers now."""

    async def ask(self, worker: int, message: AnyPeerMessage) -> Sequence[bytes]:
        """The answer of a worker; raises what it raised, or Unavailable where it does not come back.

        While the worker is started again the message waits, and is sent again where it was lost.
        """

    async def ask_others(self, message: AnyPeerMessage) -> dict[int, Sequence[bytes]]:
        """The answers of the other workers that answer now."""


class PredictionHistory(Protocol):
    """The end of the topic of serving's own predictions."""

    def is_read_for(self, partition: int) -> bool:
        """Whether the history was read since this partition of the computed features was assigned."""

    async def read_for(self, partition: int, since: datetime) -> None:
        """Remember the predictions published since then; idempotent.

        May take seconds; raises Unavailable while the broker is away.
        """


class PublishedState(NamedTuple):
    """The window state of an entity as feature has it, after `applied` observations, and its bytes on the wire.

    In loops with personal fields it is in the token `sealed`.
    """

    state: State
    applied: int
    revision: int
    size: int
    sealed: str | None = None


class EntityReader(Protocol):
    """Reads window states from feature."""

    async def read(self, loop: str, entity: str, within_s: float, *, sealed: bool = False) -> PublishedState | None:
        """The state of an entity; None where feature has none: no observation of it was received.

        `sealed` asks for the state of a loop with personal fields, which stays closed on its way.
        Raises StateUnread after `within_s` seconds at most, at once where feature is known to be away.
        """


class Metrics(Protocol):
    """Counts what is served. Never blocks, never raises."""

    def count_prediction(self, loop: str, endpoint: str, result: PredictionResult) -> None:
        """A prediction was made."""

    def count_erased(self) -> None:
        """A record was left out: its personal values were erased."""

    def count_reused(self, loop: str, endpoint: str) -> None:
        """A request or record was answered with the prediction made before."""

    def count_windows(self, source: str) -> None:
        """A request was predicted from windows that came from this source (`WindowsUsed.source`)."""

    def count_entity_read(self, result: str) -> None:
        """A read of a window state ended: found, new, or the reason of a StateUnread."""

    def count_explanation(self, loop: str, method: str) -> None:
        """A prediction was explained by this method; by `none` where that would have taken too long."""

    def count_id_taken(self, loop: str, endpoint: str) -> None:
        """A request or record was rejected: its id came before with other data."""
