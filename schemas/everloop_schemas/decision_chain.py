"""The chain of a loop's decisions: each carries the hash of the one before it, so that a change to the log shows.

A decision's hash is the SHA-256 of its bytes on the topic, which are kept as they were written.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, NamedTuple

GENESIS = "0" * 64
"""What the first decision of a loop carries."""
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a record raises that nobody here has written."""
Kind = Literal["altered", "removed", "inserted", "reordered"]


def digest(wire: bytes) -> str:
    """The hash of a decision's bytes, which the next decision carries as `prevhash`."""
    return sha256(wire).hexdigest()


class Break(NamedTuple):
    """The first place where a loop's decisions are not those that were written: which decision, and how it shows."""

    loop: str
    sequence: int
    kind: Kind
    evidence: str

    def __str__(self) -> str:
        return f"{self.loop}: decision {self.sequence} was {self.kind}: {self.evidence}"


class Link(NamedTuple):
    """What binds a decision to the one before it."""

    sequence: int
    hash: str
    prevhash: str


@dataclass
class Chain:
    """The decisions of a loop in the order of the log, each once; and its last state.

    `state` is the sequence number of the decision that the state follows, and the hash of that decision, None where
    a release wrote the state that did not say it.
    """

    loop: str
    links: list[Link] = field(default_factory=list)
    state: tuple[int, str | None] | None = None

    @property
    def head(self) -> Link | None:
        """The last decision."""
        return self.links[-1] if self.links else None

    def find_break(self) -> Break | None:
        """Where the chain is broken first; None where it is whole."""
        head, present = GENESIS, {link.sequence for link in self.links}
        for at, link in enumerate(self.links):
            if link.sequence < at:
                return Break(self.loop, link.sequence, "inserted", "there are two records of that number")
            if link.sequence > at and at in present:
                return Break(self.loop, at, "reordered", f"it stands behind decision {link.sequence}")
            if link.sequence > at:
                return Break(self.loop, at, "removed", f"decision {link.sequence} follows the one before it")
            if link.prevhash != head:
                return self._altered(at)
            head = link.hash
        return self._break_at_the_end()

    def _altered(self, at: int) -> Break:
        """A decision does not carry the hash of the one before: which of the two was changed shows from the next."""
        here, after = self.links[at], self._hash_carried_after(at)
        if at == 0 or after not in (None, here.hash):
            return Break(self.loop, at, "altered", f"its hash is {here.hash}, and not what it was chained with")
        before = self.links[at - 1]
        evidence = f"its hash is {before.hash}, decision {at} was chained to {here.prevhash}"
        return Break(self.loop, at - 1, "altered", evidence)

    def _hash_carried_after(self, at: int) -> str | None:
        """What the next decision, or the state, says of this one's hash."""
        if at + 1 < len(self.links):
            return self.links[at + 1].prevhash
        return self.state[1] if self.state and self.state[0] == at else None

    def _break_at_the_end(self) -> Break | None:
        last = len(self.links) - 1
        if self.state is None or self.state[0] < last:
            return None  # it is published after the decisions, and may be under way
        if self.state[0] > last:
            return Break(self.loop, last + 1, "removed", f"the loop's state follows decision {self.state[0]}")
        if self.state[1] not in (None, self.links[last].hash):
            evidence = f"its hash is {self.links[last].hash}, the loop's state was chained to {self.state[1]}"
            return Break(self.loop, last, "altered", evidence)
        return None


class DecisionChains:
    """The chains of all loops, from the records of both topics in the order of the log.

    A record that was published twice counts once. `strangers` are records that are no decision of any loop.
    """

    def __init__(self) -> None:
        self.loops: dict[str, Chain] = {}
        self.strangers = 0
        self._known: defaultdict[str, set[str]] = defaultdict(set)

    def add_decision(self, wire: bytes) -> None:
        """A record of `registry.decided`."""
        try:
            body = json.loads(wire)
            loop, link = str(body["loop"]), Link(int(body["sequence"]), digest(wire), str(body["prevhash"]))
        except MALFORMED:
            self.strangers += 1
            return
        if link.hash not in self._known[loop]:
            self._known[loop].add(link.hash)
            self._of(loop).links.append(link)

    def add_state(self, wire: bytes) -> None:
        """A record of `registry.loop_state`; the last one of a loop counts."""
        try:
            body = json.loads(wire)
            self._of(str(body["loop"])).state = int(body["data"]["sequence"]), body["data"].get("head")
        except MALFORMED:
            self.strangers += 1

    def _of(self, loop: str) -> Chain:
        return self.loops.setdefault(loop, Chain(loop))
