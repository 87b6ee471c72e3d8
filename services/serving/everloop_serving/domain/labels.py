"""Running statistics of a loop's labels, which is all that version 0 knows."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from everloop_learning.baseline import Baseline
from everloop_learning.feedback_share import FeedbackShare
from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.registry import BASELINE
from everloop_shared.arithmetic import exact, mean

CORRECTABLE = 5_000
"""How many of a loop's latest labels can still be corrected; a later word on an older one is left out."""
LOOP_BYTES = 1_000_000
ENTRY_BYTES = 150
CLASSES = 1_000
"""The most classes counted: beyond, a label is a number, or the loop is beyond a majority."""


class Labels:
    """Counts each prediction's label once, in its latest wording. Needs no spec, so labels may come before it.

    Feedback beyond its source's share of the loop's truth counts as no label (decision 0118). `total` is an exact sum,
    so that a correction takes back what it corrects, whatever its size.
    """

    def __init__(self, life: int = 1) -> None:
        self.life = life
        self.count, self.total = 0, 0
        self.classes: dict[Scalar, int] = {}
        self._latest: OrderedDict[str, Scalar | None] = OrderedDict()
        self._sources = FeedbackShare()
        self.bytes = self._class_bytes = 0

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.life = int(state.get("life", 1))
        self.count, self.total = int(state["count"]), int(state["total"])
        labels, feedback, by_source = state.get("sources", (0, 0, {}))
        self._sources = FeedbackShare(int(labels), int(feedback), {name: int(n) for name, n in by_source.items()})
        self.classes = {label: int(n) for label, n in state["classes"]}
        self._latest = OrderedDict((i, label) for i, label in state["latest"])
        self._class_bytes = sum(map(_size, self.classes))
        self.bytes = self._class_bytes + sum(_size(i, label) for i, label in self._latest.items())

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        classes, latest = [[k, n] for k, n in self.classes.items()], [[i, v] for i, v in self._latest.items()]
        sources = [self._sources.labels, self._sources.feedback, self._sources.by_source]
        counted = {"life": self.life, "count": self.count, "total": self.total}
        return {**counted, "classes": classes, "latest": latest, "sources": sources}

    @property
    def mean(self) -> float:
        """The mean of the labels counted, 0 where there is none."""
        return mean(self.total, self.count) if self.count else 0.0

    def observe(self, said: OutcomeObservedData, room: int = LOOP_BYTES) -> None:
        """Count a label; a correction replaces the one before. The same outcome again changes nothing.

        What it takes stays within `room` bytes, of which classes take a quarter at most.
        """
        prediction_id, label = said.prediction_id, said.label
        known, before = prediction_id in self._latest, self._latest.get(prediction_id)
        if said.correction and not known:
            return  # what it corrects is counted, and what that was is forgotten
        if before is None and label is not None and not self._sources.admit(said.kind == "label", said.source):
            label = None
        if known:
            self.bytes -= _size(prediction_id, before)
            self._remove(before)
        self._latest[prediction_id] = label
        self.bytes += _size(prediction_id, label)
        self._add(label, room // 4)
        self.shrink(room)

    def shrink(self, room: int) -> None:
        """Forget the oldest labels that could be corrected, until what is left takes `room` bytes at most."""
        while self._latest and (len(self._latest) > CORRECTABLE or self.bytes > room):
            self.bytes -= _size(*self._latest.popitem(last=False))

    def _add(self, label: Scalar | None, room: int) -> None:
        if label is None:
            return
        self.count += 1
        self.total += _term(label)
        if isinstance(label, float):
            return
        if label in self.classes:
            self.classes[label] += 1
        elif len(self.classes) < CLASSES and self._class_bytes + _size(label) <= room:
            self.classes[label] = 1
            self._class_bytes += _size(label)
            self.bytes += _size(label)

    def _remove(self, label: Scalar | None) -> None:
        if label is None:
            return
        self.count -= 1
        self.total -= _term(label)
        if label in self.classes:
            self.classes[label] -= 1
            if not self.classes[label]:
                del self.classes[label]
                self._class_bytes -= _size(label)
                self.bytes -= _size(label)


def _size(*parts: Scalar | None) -> int:
    """What an entry takes, about: its place, and the characters in it."""
    return ENTRY_BYTES + sum(len(part) for part in parts if isinstance(part, str))


class VersionZero(Baseline):
    """Version 0 of a loop, over the labels counted so far."""

    version = BASELINE


def _term(label: Scalar) -> int:
    return 0 if isinstance(label, str | bool) else exact(label)


class LabelBook:
    """Every loop's labels, with the place in the outcome log, per partition, up to which they are counted."""

    def __init__(self, limit: int = 32_000_000) -> None:
        self._limit = limit
        self._loops: dict[str, Labels] = {}
        self.offsets: dict[int, int] = {}

    def of(self, loop: str) -> Labels:
        """The loop's labels, which go on being counted."""
        if loop not in self._loops:
            self._loops[loop] = Labels()
            self._share()
        return self._loops[loop]

    @property
    def bytes(self) -> int:
        """What all of it takes, in bytes."""
        return sum(labels.bytes for labels in self._loops.values())

    @property
    def room(self) -> int:
        """What one loop may take: all share alike."""
        return self._limit // max(1, len(self._loops))

    def observe(self, loop: str, life: int, said: OutcomeObservedData) -> None:
        """Count a label of a loop in the life that began with revision `life`."""
        self.live(loop, life).observe(said, self.room)

    def _share(self) -> None:
        for labels in self._loops.values():
            labels.shrink(self.room)

    def live(self, loop: str, life: int) -> Labels:
        """The loop's labels in the life that began with this revision; those of another are dropped."""
        if self.of(loop).life != life:
            self._loops[loop] = Labels(life)
        return self._loops[loop]

    def drop(self, loop: str) -> None:
        """The loop was deleted."""
        self._loops.pop(loop, None)

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        offsets = [[p, o] for p, o in self.offsets.items()]
        return {"offsets": offsets, "loops": {name: labels.state() for name, labels in self._loops.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave; raises ValueError, KeyError or TypeError where it is something else."""
        for name, labels in state["loops"].items():
            self.of(name).restore(labels)
        self.offsets = {int(p): int(o) for p, o in state["offsets"]}

    def forget(self) -> None:
        """Count anew, from the beginning of the log."""
        for labels in self._loops.values():
            labels.restore({"count": 0, "total": 0, "classes": [], "latest": []})
        self.offsets = {}
