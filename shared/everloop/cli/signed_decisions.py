"""Which decisions and states on the log count where keys are trusted: what these did not sign is named and left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from everloop_schemas.catalogue import decode
from everloop_schemas.decision_chain import MALFORMED, DecisionChains
from everloop_schemas.envelope import SignedEvent
from everloop_schemas.registry import Decided, LoopState
from everloop_shared.signing.errors import SignatureRefused

if TYPE_CHECKING:
    from everloop_shared.signing.trust import TrustStore

TOPICS = (Decided.topic.name, LoopState.topic.name)
MAX_NAMED, MAX_NAME = 100, 100


class Refused(NamedTuple):
    """A record that no trusted key signed: its topic, loop, and the number of the decision that it is or follows."""

    topic: str
    loop: str
    sequence: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.loop}: a record of {self.topic} with decision {self.sequence} does not count: {self.reason}"


class SignedDecisions:
    """Adds to the chains what counts, as a rebuild does; everything where no keys are trusted (`trust` is None).

    `refused` are the first `MAX_NAMED` records that do not count, and `unnamed` is how many more there are.
    """

    def __init__(self, trust: TrustStore | None) -> None:
        self.chains = DecisionChains()
        self.refused: list[Refused] = []
        self.unnamed = 0
        self._trust = trust

    def add(self, topic: str, wire: bytes) -> None:
        """A record of one of `TOPICS`."""
        add = self.chains.add_decision if topic == Decided.topic.name else self.chains.add_state
        if self._trust is None or self._counts(topic, wire, self._trust):
            add(wire)

    def _counts(self, topic: str, wire: bytes, trust: TrustStore) -> bool:
        from everloop_shared.signing.events import is_admitted  # its library is not part of the light installation

        try:
            event = decode(topic, wire)
        except MALFORMED:
            self.chains.strangers += 1
            return False
        try:
            return is_admitted(event, wire, trust)
        except SignatureRefused as e:
            self._refuse(topic, event, e.detail)
            return False

    def _refuse(self, topic: str, event: object, reason: str) -> None:
        if len(self.refused) >= MAX_NAMED:
            self.unnamed += 1
        elif isinstance(event, SignedEvent):
            self.refused.append(Refused(topic, event.loop[:MAX_NAME], _sequence_of(event), reason[:300]))


def _sequence_of(event: SignedEvent) -> int | None:
    if isinstance(event, Decided):
        return event.sequence
    return event.data.sequence if isinstance(event, LoopState) else None
