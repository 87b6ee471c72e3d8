"""The watch that compares groups: what each line did for them, and whether the champion breaks a requirement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import ClassVar, Self

from everloop_learning.version import line_of
from everloop_metrics.fairness import COMPARED, CONFIDENCE, MIN_OUTCOMES, Estimate, GroupSums, measure
from everloop_metrics.measure_window import LinePrediction, MeasureWindow
from everloop_monitoring.domain.state import predictions_of
from everloop_monitoring.domain.watch import WatchedOutcome
from everloop_schemas.conditions import Condition
from everloop_schemas.envelope import Event, derived_id
from everloop_schemas.feature import OutcomeObserved, OutcomeObservedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import AlertRaised, AlertRaisedData
from everloop_schemas.registry import BASELINE
from everloop_schemas.serving import PredictionMade

CHECK_EVERY_OUTCOMES = 50
ALERT_CONFIDENCE = 0.999
"""Of the interval that an alert rests on: it is looked at again and again, so 95 % would be wrong too often."""


@dataclass
class FairnessWatch:
    """Groups of the fields in `monitor.fairness`, by line, and the requirements of the gate that name them.

    `versions` is the latest version of each line in the window, `champion` the line that served last as champion,
    `firing` by requirement the line that breaks it.
    """

    kind: ClassVar[str] = "fairness"
    window: MeasureWindow = field(default_factory=MeasureWindow)
    versions: dict[str, str] = field(default_factory=dict)
    champion: str = BASELINE
    required: tuple[str, ...] = ()
    firing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def is_on(cls, spec: LoopSpec) -> bool:
        """Whether the spec names fields whose groups are compared, in a loop that has such measures."""
        return bool(spec.monitor.fairness) and spec.task == "binary"

    def follow(self, spec: LoopSpec) -> Self:
        """Itself; where other fields are compared, with an empty window. What fires stays until it is resolved."""
        self.required = tuple(text for text in spec.gate.require if Condition.parse(text).fairness)
        if self.window.fields == spec.monitor.fairness:
            return self
        return replace(self, window=MeasureWindow(spec.monitor.fairness), versions={})

    def add_prediction(self, event: PredictionMade, now: datetime) -> Sequence[Event]:
        """Nothing: groups are compared on outcomes."""
        return ()

    def add_outcome(self, outcome: WatchedOutcome, now: datetime) -> Sequence[Event]:
        """Count an outcome for each line that predicted it; the alerts that begin or end with it."""
        data = outcome.event.data
        if outcome.before is None:
            self.window.begin_outcome(outcome.now.offset, data.features)
            self._follow_versions(data)
        predictions = list(_by_line(data))
        for counted, sign in ((outcome.before, -1), (outcome.now, 1)):
            if counted is not None and counted.label is not None:
                self.window.add(counted.offset, data.features, counted.label, predictions, sign)
        if outcome.before is not None or self.window.blocks[-1].outcomes % CHECK_EVERY_OUTCOMES:
            return ()
        return list(self._check(outcome.event, now))

    def groups_of(self, line: str, name: str) -> dict[str, GroupSums]:
        """The sums of a line by group of a field, without empty groups."""
        groups = self.window.sums_of(line).fields.get(name, {})
        return {group: sums for group, sums in groups.items() if sums.outcomes}

    def _follow_versions(self, data: OutcomeObservedData) -> None:
        if data.role == "champion":
            self.champion = line_of(data.version)
        elif data.role == "baseline":
            self.champion = BASELINE
        for predicted in reversed(predictions_of(data)):
            self.versions[line_of(predicted.version)] = predicted.version
        if len(self.versions) > 2 * len(self.window.blocks) * self.window.max_lines:
            known = set(self.window.lines())
            self.versions = {line: version for line, version in self.versions.items() if line in known}

    def _check(self, event: OutcomeObserved, now: datetime) -> Iterator[AlertRaised]:
        for text in list(dict.fromkeys([*self.firing, *self.required])):
            condition = Condition.parse(text)
            name, kind = condition.fairness or ("", "")
            groups, line = self.groups_of(self.champion, name), self.firing.get(text)
            if line is None and _is_broken(condition, measure(kind, groups, ALERT_CONFIDENCE)):
                self.firing[text] = self.champion
                yield _event(event, now, self._alert(condition, measure(kind, groups), groups))
            elif line is not None and (why := self._why_over(condition, line, measure(kind, groups))):
                del self.firing[text]
                message = f"{condition} is broken no more: {why}"
                over = AlertRaisedData(kind="fairness", severity="info", message=message, alert=text, state="resolved")
                yield _event(event, now, over)

    def _why_over(self, condition: Condition, line: str, now: Estimate) -> str | None:
        """Why an alert about a line is over; None where it is not."""
        if str(condition) not in self.required:
            return "it is required no more"
        if line != self.champion:
            return f"{self.champion} is champion now"
        if now.value is None or not condition.holds(now.value):
            return None
        return f"{line} has {describe(now)} now"

    def _alert(self, condition: Condition, found: Estimate, groups: dict[str, GroupSums]) -> AlertRaisedData:
        version = self.versions.get(self.champion, self.champion)
        return AlertRaisedData(
            kind="fairness",
            severity="warning",
            message=f"{version} serves and breaks {condition}: it is {describe(found)}",
            alert=str(condition),
            evidence=tuple(describe_extremes(condition, groups)),
            cause=f"line {self.champion} predicts differently for groups of {(condition.fairness or ('',))[0]}",
        )


def describe(estimate: Estimate) -> str:
    """An estimate in words."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return f"not known: fewer than {MIN_OUTCOMES} outcomes in two groups"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f}) over {estimate.outcomes} outcomes"


def _by_line(data: OutcomeObservedData) -> Iterator[LinePrediction]:
    """The prediction of each line; of two versions of a line the first, which is the served one."""
    seen = set[str]()
    for predicted in predictions_of(data):
        if (line := line_of(predicted.version)) not in seen:
            seen.add(line)
            yield LinePrediction(line, predicted.prediction, predicted.probabilities)


def _is_broken(condition: Condition, estimate: Estimate) -> bool:
    """Whether the whole interval breaks a condition."""
    bounds = (estimate.low, estimate.high)
    return all(bound is not None and not condition.holds(bound) for bound in bounds)


def describe_extremes(condition: Condition, groups: dict[str, GroupSums]) -> Iterator[str]:
    """By statistic that is compared, the group with the highest value and that with the lowest."""
    name, kind = condition.fairness or ("", "")
    for statistic in COMPARED[kind]:
        found = {group: statistic(sums, CONFIDENCE) for group, sums in groups.items()}
        ranked = sorted(
            ((e.value, group) for group, e in found.items() if e.value is not None and e.outcomes >= MIN_OUTCOMES),
            reverse=True,
        )
        what = statistic.__name__.replace("_", " ")
        for _, group in [*ranked[:1], *ranked[-1:]]:
            yield f"{name} {group}: {what} {describe(found[group])}"


def _event(cause: OutcomeObserved, now: datetime, data: AlertRaisedData) -> AlertRaised:
    return AlertRaised(
        id=derived_id(cause.loop, AlertRaised.type_name(), data.alert, data.state, cause.id),
        time=now,
        subject=data.kind,
        loop=cause.loop,
        revision=cause.revision,
        causationid=cause.id,
        traceparent=cause.traceparent,
        data=data,
    )
