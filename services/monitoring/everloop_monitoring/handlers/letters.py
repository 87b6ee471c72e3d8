"""What monitoring does when a dead letter is sent again."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.letters import ListedLetter, SentAs, build_sent, event_again, original, sent_as
from everloop_monitoring.ports import Letters
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_shared.clock import Clock


@dataclass(frozen=True)
class LetterHandlers:
    """The commands about dead letters, inside the open unit of work."""

    letters: Letters
    loops: KnownLoops
    clock: Clock

    async def send(self, listed: ListedLetter, letter: DeadLetter, repaired: bytes | None, actor: str) -> list[Event]:
        """Send a letter's event on its topic again, repaired or as it was; nothing where just this was sent before.

        Raises LetterNotSendable, LetterRejected or LoopNotFound.
        """
        value = original(letter) if repaired is None else repaired
        event = event_again(letter, value)
        recorded = await self.record_sent(listed, sent_as(letter, event, value), actor)
        return [event, *recorded] if recorded else []

    async def record_sent(self, letter: ListedLetter, sent: SentAs, actor: str) -> list[Event]:
        """Remember that a letter's record went again; nothing where just this is remembered. Raises LoopNotFound."""
        self.loops.require(sent.loop)
        event = build_sent(letter, sent, actor, self.clock())
        if await self.letters.has_sent(event):
            return []
        await self.letters.add_sent([event])
        return [event]
