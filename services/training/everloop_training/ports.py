"""What training needs: a place for artifacts (in the worker), and learners and a record of runs (in the service)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_schemas.training import RunFinished, RunRequested

if TYPE_CHECKING:
    from everloop_schemas.envelope import Event
    from everloop_shared.messaging.routes import Position


class Learners(Protocol):
    """The lines of every loop, learning somewhere else; calls are cheap, results arrive as events on the bus."""

    async def learn(self, event: OutcomeObserved, at: Position) -> None:
        """Hand over an outcome. Waits while too much is on its way; an offset seen before changes nothing."""

    def follow(self, state: LoopState) -> None:
        """Tell them a loop's new state. Never waits."""

    async def on_drift(self, event: DriftDetected, partition: int, offset: int) -> list[Event]:
        """The run that a drift asks for, the same for the same alert; none in the cooldown.

        Raises Behind where the outcomes up to the drift are not learned yet, Unavailable while they restart.
        """

    async def request_run(self, loop: str, key: str, reason: str) -> RunRequested | None:
        """Start a run because a person asks; the same key is the same run.

        None where the loop has no outcomes yet: all its lines start with the first. Raises Unavailable while they
        restart.
        """


class RunLog(Protocol):
    """All runs of all loops, a fold of the topics. Idempotent, in memory, bounded."""

    def requested(self, event: RunRequested) -> None: ...
    def finished(self, event: RunFinished) -> None: ...
    def forget(self, loop: str) -> None:
        """The loop's life has ended."""

    def of(self, loop: str) -> list[tuple[RunRequested, RunFinished | None]]:
        """A loop's runs, oldest first."""


class Worker(Protocol):
    """Somebody at a desk: takes messages in order and answers. Lost when it dies; another is started then."""

    @property
    def pid(self) -> int: ...
    def send(self, message: Any) -> None:
        """Send a message. Never waits, never raises: to one that has gone it is lost."""

    async def drained(self) -> None:
        """Wait until what was sent has room."""

    async def receive(self) -> Any:
        """The next answer, None once it has gone."""

    async def end(self) -> None:
        """Have it go, and wait until it has gone. Idempotent."""
