"""How a source fares, for people, probes and metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

SourceState = Literal["starting", "reading", "rejecting", "waiting", "refused"]
REJECTING_AFTER = 10
"""So many rejected records in a row say that the records have changed their shape, or never had this one."""
REPORT_LOSS_FOR_S = 3_600.0


@dataclass
class SourceStatus:
    """One source as this process reads it; the counts begin with the process.

    `waiting` is a source that cannot be read now and is tried again; `refused` is one that needs another setting or
    spec; `rejecting` is one whose last records were all rejected. `lag` is of the partitions that this process reads.
    """

    loop: str
    source: str
    topic: str
    state: SourceState = "starting"
    detail: str = ""
    partitions: int = 0
    lag: int = 0
    records: int = 0
    events: int = 0
    labels: int = 0
    rejected: int = 0
    lost: int = 0
    rejection: str = ""
    _rejected_in_row: int = field(default=0, repr=False)
    _lost_at: float = field(default=0.0, repr=False)

    def set(self, state: SourceState, detail: str = "") -> None:
        """Change the state, with the reason where it does not read."""
        self.state, self.detail = state, detail

    def count(self, events: int, labels: int) -> None:
        """A record that was read, with what it gave."""
        self.records += 1
        self.events += events
        self.labels += labels
        if events or labels:
            self._rejected_in_row = 0

    def count_rejection(self, reason: str) -> None:
        """A record that became a dead letter."""
        self.records += 1
        self.rejected += 1
        self._rejected_in_row += 1
        self.rejection = reason

    def count_loss(self, records: int) -> None:
        """Records that the topic no longer had when they were due."""
        self.lost += records
        self._lost_at = time.monotonic()

    @property
    def shown_state(self) -> SourceState:
        """`rejecting` in place of `reading` where nothing fits."""
        return "rejecting" if self.state == "reading" and self._rejected_in_row >= REJECTING_AFTER else self.state

    def problem(self) -> str | None:
        """What a person should know, as a sentence; None for a source that is read."""
        name = f"source {self.loop}/{self.source}"
        match self.shown_state:
            case "waiting" | "refused":
                return f"{name} is not read: {self.detail}"
            case "rejecting":
                return f"{name}: the last {self._rejected_in_row:,} records were all rejected: {self.rejection}"
        if self.lost and time.monotonic() - self._lost_at < REPORT_LOSS_FOR_S:
            return f"{name}: {self.lost:,} records of {self.topic} were gone before they could be read"
        return None

    def as_dict(self) -> dict[str, Any]:
        """The status as the endpoint shows it."""
        shown = {"source": self.source, "topic": self.topic, "state": self.shown_state}
        counts = ("partitions", "lag", "records", "events", "labels", "rejected", "lost")
        texts = {"detail": self.problem() or self.detail, "rejection": self.rejection}
        return shown | {name: getattr(self, name) for name in counts} | {k: v for k, v in texts.items() if v}
