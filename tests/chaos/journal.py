"""What the doors acknowledged, as the applications remember it: the only thing the checker believes besides the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass
class Word:
    """A label or feedback, and whether the door said 202."""

    kind: Literal["label", "feedback"]
    body: dict[str, Any]
    acknowledged: bool = False


@dataclass
class Asked:
    """One observation under the application's own id, with the answer that a REST prediction got."""

    loop: str
    id: str
    door: Literal["stream", "rest"]
    entity: str
    fields: dict[str, Any]
    acknowledged: bool = False
    answer: dict[str, Any] | None = None
    words: list[Word] = field(default_factory=list)


@dataclass
class Journal:
    """Everything that was sent. `surprises` are answers that no door should give."""

    asked: dict[tuple[str, str], Asked] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)

    def add(self, asked: Asked) -> Asked:
        """Remember an observation before it is sent for the first time."""
        self.asked[asked.loop, asked.id] = asked
        return asked

    def of(self, loop: str) -> Iterator[Asked]:
        """What was sent to a loop."""
        return (a for a in self.asked.values() if a.loop == loop)

    @property
    def acknowledged(self) -> int:
        """How many observations and words the doors took."""
        return sum(a.acknowledged + sum(w.acknowledged for w in a.words) for a in self.asked.values())

    def save(self, file: Path) -> None:
        """Write it, so that the checker can look again later."""
        lines = [json.dumps(asdict(a)) for a in self.asked.values()]
        file.write_text("\n".join([json.dumps({"surprises": self.surprises}), *lines]))

    @classmethod
    def load(cls, file: Path) -> Journal:
        """Read what `save` wrote."""
        first, *lines = file.read_text().splitlines()
        journal = cls(surprises=json.loads(first)["surprises"])
        for line in lines:
            values = json.loads(line)
            words = [Word(**w) for w in values.pop("words")]
            journal.add(Asked(**values, words=words))
        return journal
