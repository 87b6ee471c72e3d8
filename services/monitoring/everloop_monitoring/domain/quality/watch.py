"""The watch that measures quality: by version, line, role and slice, over all outcomes and over the last ones."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, NamedTuple, Self

from everloop_metrics import class_name
from everloop_metrics.durations import Durations
from everloop_monitoring.domain.quality.estimate import Estimator, estimated_metric, said
from everloop_monitoring.domain.quality.groups import (
    SHADOW,
    GroupedSums,
    Predicted,
    Slice,
    keys_of,
    scalar_of,
)
from everloop_monitoring.domain.quality.judged import (
    Judged,
    Parts,
    Place,
    judge,
    parts_of_classes,
    parts_of_number,
    place_of,
)
from everloop_monitoring.domain.scores import ROLLING_OUTCOMES
from everloop_monitoring.domain.state import CountedOutcome, predictions_of
from everloop_monitoring.domain.watch import WatchedOutcome
from everloop_schemas.envelope import Event, Scalar
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import PredictionMade
from everloop_shared.arithmetic import bounded

NO_CHANGE, MAJORITY = "baseline\t\tno_change", "baseline\t\tmajority"


class RecentOutcome(NamedTuple):
    """One of the last outcomes: its label, who predicted it and what, the first of them served, and its slices."""

    offset: int
    label: Place
    who: tuple[Predicted, ...]
    judged: tuple[Judged, ...]
    slices: dict[str, str]


@dataclass
class QualityWatch:
    """Sums of every group from outcome `since` on, the last `ROLLING_OUTCOMES`, delays of labels, and an estimator.

    `asked` are the slices that the spec names. `classes` are the names of classes by place; a regression has none.
    `corrected` counts labels that were changed.
    """

    kind: ClassVar[str] = "quality"
    task: str = ""
    asked: tuple[str, ...] = ()
    classes: list[str] = field(default_factory=list)
    since: int = -1
    grouped: GroupedSums = field(default_factory=GroupedSums)
    recent: list[RecentOutcome] = field(default_factory=list)
    slices: dict[str, Slice] = field(default_factory=dict)
    delays: Durations = field(default_factory=Durations)
    estimator: Estimator = field(default_factory=Estimator)
    corrected: int = 0

    @classmethod
    def is_on(cls, spec: LoopSpec) -> bool:
        """Whether the spec asks for quality, or names slices."""
        return spec.monitor.quality or bool(spec.monitor.slices)

    def follow(self, spec: LoopSpec) -> Self:
        """The watch for this spec; slices that it names anew count from the next outcome on."""
        if spec.task != self.task:
            classes = {"binary": ["false", "true"], "regression": []}.get(spec.task)
            named = [class_name(label)[:100] for label in (spec.label.classes or ())[:20]]
            fresh = type(self)(task=spec.task, classes=named if classes is None else classes)
            return fresh.follow(spec)
        self.asked = spec.monitor.slices
        self.estimator.follow(estimated_metric(spec), spec.task == "multiclass")
        for name in set(self.slices) - set(spec.monitor.slices):
            del self.slices[name]
            self.grouped.drop_slice(name)
        return self

    def add_prediction(self, event: PredictionMade, now: datetime) -> Sequence[Event]:
        """A prediction enters what is estimated."""
        data = event.data
        self.estimator.add_prediction(said(self.task, self.classes, data.prediction, data.probabilities))
        return ()

    def add_outcome(self, outcome: WatchedOutcome, now: datetime) -> Sequence[Event]:
        """Count a label, or replace what an earlier one counted."""
        data, before, label = outcome.event.data, outcome.before, outcome.now.label
        if before is None and self.since < 0:
            self.since = outcome.now.offset
        if not 0 <= self.since <= outcome.now.offset:
            return ()
        slices = self._slices_of(data, outcome.now.offset, before is None)
        if before is not None and before.label is not None:
            self._count(data, before, before.label, slices, -1)
            self.corrected += 1
        if label is None:
            self._keep(outcome.now.offset, None)
            return ()
        self._keep(outcome.now.offset, self._count(data, outcome.now, label, slices, 1))
        if before is None or before.label is None:
            self._count_first(data, label)
        return ()

    def parts(self, label: Place, judged: Judged) -> Parts:
        """What a prediction adds to the sums of a group."""
        if self.task == "regression":
            return parts_of_number(label, judged)
        return parts_of_classes(int(label), judged, self.task == "binary")

    def _count_first(self, data: OutcomeObservedData, label: Scalar) -> None:
        self.delays.add((data.labelled - data.predicted).total_seconds())
        if self.classes:
            one = said(self.task, self.classes, data.prediction, data.probabilities)
            self.estimator.add_outcome(one, int(self._place(label)), self.classes)

    def _count(
        self, data: OutcomeObservedData, counted: CountedOutcome, label: Scalar, slices: dict[str, str], sign: int
    ) -> RecentOutcome:
        place = self._place(label)
        predictions = predictions_of(data)
        who = tuple(Predicted(p.version, SHADOW if i else data.role) for i, p in enumerate(predictions))
        judged = tuple(self._judge(label, place, p.prediction, p.probabilities) for p in predictions)
        for keys, one in zip(keys_of(who, slices), judged, strict=True):
            self.grouped.add(keys, counted.offset, self.parts(place, one), sign)
        for key, value in ((NO_CHANGE, counted.no_change), (MAJORITY, counted.majority)):
            self.grouped.add((key,), counted.offset, self.parts(place, self._bare(label, place, value)), sign)
        return RecentOutcome(counted.offset, place, who, judged, slices)

    def _judge(self, label: Scalar, place: Place, value: Scalar, probabilities: Mapping[str, float] | None) -> Judged:
        if self.task == "regression":
            return Judged(bounded(value))
        return judge(label, int(place), value, int(self._place(value)), probabilities)

    def _bare(self, label: Scalar, place: Place, value: Scalar) -> Judged:
        """A prediction of a baseline, which has no probabilities here and makes no class known."""
        if self.task == "regression":
            return Judged(bounded(value))
        at = place_of(self.classes, value, joins=False)
        return Judged(judge(label, int(place), value, at, None).value)

    def _place(self, label: Scalar) -> Place:
        """A number, or the place of a class; those of two classes are given."""
        if self.task == "regression":
            return bounded(label)
        return place_of(self.classes, label, joins=self.task != "binary")

    def _slices_of(self, data: OutcomeObservedData, offset: int, is_new: bool) -> dict[str, str]:
        """The groups of an outcome, by slice that counts it."""
        found = {}
        for name in self.asked:
            if name not in self.slices and is_new:
                self.slices[name] = Slice(offset)
            cut, value = self.slices.get(name), scalar_of(data.features.get(name))
            if cut is None or offset < cut.since:
                continue
            if is_new and (renamed := cut.groups.add(value)):
                self._rename(name, renamed)
            found[name] = cut.groups.name_of(value)
        return found

    def _rename(self, name: str, renamed: Mapping[str, str]) -> None:
        self.grouped.rename(name, renamed)
        self.recent = [
            one._replace(slices={**one.slices, name: renamed.get(one.slices[name], one.slices[name])})
            if name in one.slices
            else one
            for one in self.recent
        ]

    def _keep(self, offset: int, outcome: RecentOutcome | None) -> None:
        """Put an outcome among the last ones, in place of what was known of it."""
        recent = self.recent
        at = bisect_left(recent, offset, key=lambda one: one.offset)
        if at < len(recent) and recent[at].offset == offset:
            del recent[at]
        if outcome is not None:
            recent.insert(at, outcome)
            if len(recent) > ROLLING_OUTCOMES:
                del recent[0]
