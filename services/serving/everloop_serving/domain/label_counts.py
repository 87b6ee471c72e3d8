"""Running statistics of the labels of each loop, from which version 0 predicts."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from everloop_learning.baseline import Baseline
from everloop_learning.feedback_share import FeedbackShare
from everloop_models import ModelPrediction
from everloop_models.explain import score_of
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.registry import BASELINE
from everloop_schemas.serving import Explanation
from everloop_shared.arithmetic import exact, mean

MAX_CORRECTABLE = 5_000
"""How many of a loop's latest labels can still be corrected; corrections of older ones are left out."""
DEFAULT_LOOP_BYTES = 1_000_000
ENTRY_BYTES = 150
"""Memory of an entry beside the characters in it."""
MAX_CLASSES = 1_000
"""The most classes counted: with more, labels are numbers, or no class has a majority."""


class LabelCounts:
    """Counts each prediction's latest label once. Needs no spec, so that labels may come before the loop's state.

    Feedback beyond its source's share of the loop's outcomes counts as no label (decision 0118). `total` is an exact
    sum, so that a correction takes back what it corrects, whatever its size.
    """

    def __init__(self, life: int = 1) -> None:
        self.life = life
        self.count, self.total = 0, 0
        self.classes: dict[Scalar, int] = {}
        self._latest: OrderedDict[str, Scalar | None] = OrderedDict()
        self._share = FeedbackShare()
        self.bytes = self._class_bytes = 0

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.life = int(state.get("life", 1))
        self.count, self.total = int(state["count"]), int(state["total"])
        labels, feedback, by_source = state.get("sources", (0, 0, {}))
        self._share = FeedbackShare(int(labels), int(feedback), {name: int(n) for name, n in by_source.items()})
        self.classes = {label: int(n) for label, n in state["classes"]}
        self._latest = OrderedDict((i, label) for i, label in state["latest"])
        self._class_bytes = sum(map(_bytes_of, self.classes))
        self.bytes = self._class_bytes + sum(_bytes_of(i, label) for i, label in self._latest.items())

    def state(self) -> dict[str, Any]:
        """Everything, for JSON."""
        classes, latest = [[k, n] for k, n in self.classes.items()], [[i, v] for i, v in self._latest.items()]
        sources = [self._share.labels, self._share.feedback, self._share.by_source]
        counted = {"life": self.life, "count": self.count, "total": self.total}
        return {**counted, "classes": classes, "latest": latest, "sources": sources}

    @property
    def mean(self) -> float:
        """The mean of the labels, 0 where there is none."""
        return mean(self.total, self.count) if self.count else 0.0

    def add(self, outcome: OutcomeObservedData, max_bytes: int = DEFAULT_LOOP_BYTES) -> None:
        """Count the label of an outcome; a correction replaces the label before. A repeated outcome changes nothing.

        The memory stays within `max_bytes`, of which classes take a quarter at most.
        """
        prediction_id, label = outcome.prediction_id, outcome.label
        known, before = prediction_id in self._latest, self._latest.get(prediction_id)
        if outcome.correction and not known:
            return  # the label that it corrects is counted, but no longer known
        if before is None and label is not None and not self._share.admit(outcome.kind == "label", outcome.source):
            label = None
        if known:
            self.bytes -= _bytes_of(prediction_id, before)
            self._subtract(before)
        self._latest[prediction_id] = label
        self.bytes += _bytes_of(prediction_id, label)
        self._add(label, max_bytes // 4)
        self.evict(max_bytes)

    def evict(self, max_bytes: int) -> None:
        """Evict the oldest labels that could be corrected, until the rest takes `max_bytes` at most."""
        while self._latest and (len(self._latest) > MAX_CORRECTABLE or self.bytes > max_bytes):
            self.bytes -= _bytes_of(*self._latest.popitem(last=False))

    def _add(self, label: Scalar | None, max_class_bytes: int) -> None:
        if label is None:
            return
        self.count += 1
        self.total += _summand(label)
        if isinstance(label, float):
            return
        if label in self.classes:
            self.classes[label] += 1
        elif len(self.classes) < MAX_CLASSES and self._class_bytes + _bytes_of(label) <= max_class_bytes:
            self.classes[label] = 1
            self._class_bytes += _bytes_of(label)
            self.bytes += _bytes_of(label)

    def _subtract(self, label: Scalar | None) -> None:
        if label is None:
            return
        self.count -= 1
        self.total -= _summand(label)
        if label in self.classes:
            self.classes[label] -= 1
            if not self.classes[label]:
                del self.classes[label]
                self._class_bytes -= _bytes_of(label)
                self.bytes -= _bytes_of(label)


def _bytes_of(*parts: Scalar | None) -> int:
    """The approximate memory of an entry."""
    return ENTRY_BYTES + sum(len(part) for part in parts if isinstance(part, str))


def _summand(label: Scalar) -> int:
    return 0 if isinstance(label, str | bool) else exact(label)


class BaselineVersion(Baseline):
    """Version 0 of a loop, over the labels counted so far."""

    version = BASELINE

    def explain(self, features: Fields, prediction: ModelPrediction, seed: str, seconds: float) -> Explanation | None:
        """No feature contributes: it predicts from labels alone."""
        of, base = score_of(prediction)
        return Explanation(method="permutation", of=of, base=base, contributions=dict.fromkeys(features, 0.0))


class LabelCountsByLoop:
    """The label counts of every loop, and the offset of the outcome log, per partition, up to which they count.

    `max_bytes` is for all loops, in equal parts.
    """

    def __init__(self, max_bytes: int = 32_000_000) -> None:
        self._max_bytes = max_bytes
        self._loops: dict[str, LabelCounts] = {}
        self.offsets: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        """The memory of all loops."""
        return sum(labels.bytes for labels in self._loops.values())

    @property
    def bytes_per_loop(self) -> int:
        """The memory that one loop may take."""
        return self._max_bytes // max(1, len(self._loops))

    def of(self, loop: str) -> LabelCounts:
        """The counts of a loop; they are updated as labels come."""
        if loop not in self._loops:
            self._loops[loop] = LabelCounts()
            for labels in self._loops.values():
                labels.evict(self.bytes_per_loop)
        return self._loops[loop]

    def in_lifetime(self, loop: str, life: int) -> LabelCounts:
        """The counts of the loop's lifetime that began with revision `life`; those of another lifetime are dropped."""
        if self.of(loop).life != life:
            self._loops[loop] = LabelCounts(life)
        return self._loops[loop]

    def add(self, loop: str, life: int, outcome: OutcomeObservedData) -> None:
        """Count the label of an outcome in the loop's lifetime that began with revision `life`."""
        self.in_lifetime(loop, life).add(outcome, self.bytes_per_loop)

    def drop_loop(self, loop: str) -> None:
        """Drop the counts of a loop that was deleted."""
        self._loops.pop(loop, None)

    def state(self) -> dict[str, Any]:
        """Everything, for JSON."""
        offsets = [[p, o] for p, o in self.offsets.items()]
        return {"offsets": offsets, "loops": {name: labels.state() for name, labels in self._loops.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; raises ValueError, KeyError or TypeError for anything else."""
        for name, labels in state["loops"].items():
            self.of(name).restore(labels)
        self.offsets = {int(p): int(o) for p, o in state["offsets"]}

    def reset(self) -> None:
        """Start over from the beginning of the log; whoever holds counts of a loop sees them empty."""
        for labels in self._loops.values():
            labels.restore({"count": 0, "total": 0, "classes": [], "latest": []})
        self.offsets = {}
