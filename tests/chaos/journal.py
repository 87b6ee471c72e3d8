"""What the endpoints acknowledged to the applications: the checker's only source besides the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass
class SentLabel:
    """A label or feedback, and whether ingest answered 202."""

    kind: Literal["label", "feedback"]
    body: dict[str, Any]
    acknowledged: bool = False


@dataclass
class SentObservation:
    """One observation under the application's own id, with the answer that a REST prediction got."""

    loop: str
    id: str
    via: Literal["stream", "rest"]
    entity: str
    fields: dict[str, Any]
    acknowledged: bool = False
    answer: dict[str, Any] | None = None
    labels: list[SentLabel] = field(default_factory=list)


@dataclass
class Journal:
    """Everything that was sent. `surprises` are answers that no endpoint should give."""

    observations: dict[tuple[str, str], SentObservation] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)

    def add(self, observation: SentObservation) -> SentObservation:
        """Add an observation before it is sent for the first time."""
        self.observations[observation.loop, observation.id] = observation
        return observation

    def of(self, loop: str) -> Iterator[SentObservation]:
        """What was sent to a loop."""
        return (a for a in self.observations.values() if a.loop == loop)

    @property
    def acknowledged(self) -> int:
        """How many observations, labels and feedback were acknowledged."""
        return sum(a.acknowledged + sum(w.acknowledged for w in a.labels) for a in self.observations.values())

    def save(self, file: Path) -> None:
        """Write it, so that the checker can run again later."""
        lines = [json.dumps(asdict(a)) for a in self.observations.values()]
        file.write_text("\n".join([json.dumps({"surprises": self.surprises}), *lines]))

    @classmethod
    def load(cls, file: Path) -> Journal:
        """Read what `save` wrote."""
        first, *lines = file.read_text().splitlines()
        journal = cls(surprises=json.loads(first)["surprises"])
        for line in lines:
            values = json.loads(line)
            labels = [SentLabel(**w) for w in values.pop("labels")]
            journal.add(SentObservation(**values, labels=labels))
        return journal
