"""The watch of a loop's service levels: how many cases were in time, in buckets of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, NamedTuple, Self

from everloop_monitoring.domain.alerts import RANKS, AlertBook, Signal
from everloop_monitoring.domain.burn_rate import Buckets, BurnRule, Counts, budget_left, burn_rate, find_burning
from everloop_monitoring.domain.runbooks import runbook_of
from everloop_monitoring.domain.watch import WatchedOutcome
from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitor_spec import ObjectiveSpec
from everloop_schemas.quantities import parse_duration_s
from everloop_schemas.serving import PredictionMade
from everloop_schemas.training import ModelTrained

ObjectiveName = Literal["prediction", "learned", "recovered", "latency_p99"]
LATENCY_SHARE = 0.99
MAX_WAITING = 200
"""Groups of labels that no version has learned yet; the two oldest become one where there are more."""
GROUP_SHARE = 0.05
"""Labels within this share of the objective's time are one group, whose time is that of its first."""
MIN_CASES = {"prediction": 20, "learned": 20, "recovered": 1, "latency_p99": 20}
MEANS = {
    "prediction": "from an observation's time to its prediction",
    "learned": "from a label to a version of a line that has learned it",
    "recovered": "from a drift to a champion whose error is as it was",
    "latency_p99": "of a model for a prediction",
}

CAUSES = {
    "prediction": "feature or serving is behind its topics, or the clock of who sends observations is wrong",
    "learned": "training is behind, or its line makes no versions: refresh.every is large for the rate of labels",
    "recovered": "no challenger is better on the new data yet",
    "latency_p99": "the model is large for this machine, or the machine is busy",
}


class Target(NamedTuple):
    """An objective of the loop's file: this share of cases within so many seconds."""

    within_s: float
    share: float


class WaitingLabels(NamedTuple):
    """Labels up to an offset of the outcome log that no version has learned: when the first came, and how many."""

    offset: int
    labelled_s: float
    n: int


def targets_of(spec: LoopSpec) -> dict[str, Target]:
    """The objectives of a loop's file, by name."""
    said = spec.monitor.objectives
    named = {"prediction": said.prediction, "learned": said.learned, "recovered": said.recovered}
    found = {name: _target_of(one) for name, one in named.items() if one is not None}
    if spec.monitor.latency_p99 is not None:
        found["latency_p99"] = Target(parse_duration_s(spec.monitor.latency_p99), LATENCY_SHARE)
    return found


def _target_of(objective: ObjectiveSpec) -> Target:
    return Target(parse_duration_s(objective.within), objective.share)


@dataclass
class ObjectivesWatch:
    """The cases of each objective, at the time at which the case began."""

    kind: ClassVar[str] = "objectives"
    targets: dict[str, Target] = field(default_factory=dict)
    cases: dict[str, Buckets] = field(default_factory=dict)
    waiting: list[WaitingLabels] = field(default_factory=list)

    @classmethod
    def is_on(cls, spec: LoopSpec) -> bool:
        """Whether the loop's file has an objective."""
        return bool(targets_of(spec))

    def follow(self, spec: LoopSpec) -> Self:
        """Itself; an objective that changes its time counts from nothing."""
        targets = targets_of(spec)
        if targets != self.targets:
            kept = {name for name, one in targets.items() if self.targets.get(name, one).within_s == one.within_s}
            self.cases = {name: self.cases.get(name, Buckets()) if name in kept else Buckets() for name in targets}
            self.targets = targets
        return self

    def add_prediction(self, event: PredictionMade, now: datetime) -> Sequence[Event]:
        """Count whether a prediction was in time, and its model quick."""
        observed_s = event.data.observed.timestamp()
        if (target := self.targets.get("prediction")) is not None:
            self._count("prediction", observed_s, event.time.timestamp() - observed_s <= target.within_s, now)
        if (target := self.targets.get("latency_p99")) is not None:
            self._count("latency_p99", observed_s, event.data.latency_ms <= target.within_s * 1000, now)
        return ()

    def add_outcome(self, outcome: WatchedOutcome, now: datetime) -> Sequence[Event]:
        """A label waits to be learned; corrections are not counted again."""
        target = self.targets.get("learned")
        if target is None or outcome.before is not None or outcome.now.label is None:
            return ()
        labelled_s, waiting = outcome.event.data.labelled.timestamp(), self.waiting
        last = waiting[-1] if waiting else None
        if last and 0 <= labelled_s - last.labelled_s <= GROUP_SHARE * target.within_s:
            waiting[-1] = last._replace(offset=outcome.offset, n=last.n + 1)
            return ()
        waiting.append(WaitingLabels(outcome.offset, labelled_s, 1))
        if len(waiting) > MAX_WAITING:
            first, second = waiting[:2]
            earlier = min(first.labelled_s, second.labelled_s)
            waiting[:2] = [WaitingLabels(second.offset, earlier, first.n + second.n)]
        return ()

    def add_version(self, event: ModelTrained, now: datetime) -> None:
        """The labels up to the offset of a line's version are learned."""
        target = self.targets.get("learned")
        if target is None or event.data.reason == "submitted":
            return
        learned_s = event.time.timestamp()
        for labels in [one for one in self.waiting if one.offset <= event.data.offset]:
            self.waiting.remove(labels)
            in_time = learned_s - labels.labelled_s <= target.within_s
            self._count("learned", labels.labelled_s, in_time, now, labels.n)

    def add_recovery(self, since: datetime, now: datetime) -> None:
        """A drift that began at `since` is over, or still goes on after the objective's time."""
        if (target := self.targets.get("recovered")) is not None:
            self._count("recovered", now.timestamp(), (now - since).total_seconds() <= target.within_s, now)

    def expire(self, now: datetime) -> bool:
        """Count labels as bad that nobody has learned in time; whether there were any."""
        target = self.targets.get("learned")
        late = [one for one in self.waiting if target and now.timestamp() - one.labelled_s > target.within_s]
        for labels in late:
            self.waiting.remove(labels)
            self._count("learned", labels.labelled_s, False, now, labels.n)
        return bool(late)

    def describe(self, now: datetime) -> Iterator[dict[str, Any]]:
        """Each objective: cases over 30 days and their course, burn rates, the share of the budget that is left."""
        now_s = now.timestamp()
        for name, target in self.targets.items():
            buckets = self.cases[name]
            month = buckets.counts("30d", now_s)
            burn = {window: burn_rate(buckets.counts(window, now_s), target.share) for window in ("1h", "6h", "3d")}
            counted = {"good": month[0], "total": month[1], "burn": burn}
            left = budget_left(month, target.share)
            course = {span: [one._asdict() for one in cases] for span, cases in buckets.history(now_s).items()}
            yield {"objective": name, **target._asdict(), **counted, "budget_left": left, "history": course}

    def follow_alerts(self, book: AlertBook, loop: str, now: datetime) -> None:
        """Raise the alert of each objective whose budget burns too fast, and end those of others."""
        for alert in [one for one in book.open.values() if one.kind == "objective"]:
            if alert.alert.removeprefix("objective.") not in self.targets:
                book.end(alert.alert, "the loop's file has no such objective any more", alert.caused_by)
        for name, target in self.targets.items():
            alert_name, buckets = f"objective.{name}", self.cases[name]
            rule = find_burning(buckets, target.share, now.timestamp(), MIN_CASES[name])
            known = book.open.get(alert_name)
            if rule is None:
                book.end(alert_name, "its budget burns slowly enough again", known.caused_by if known else "")
            elif known is None or RANKS[rule.severity] > RANKS[known.severity]:
                counts = buckets.counts(rule.long, now.timestamp())
                caused_by = f"{loop}/{alert_name}/{int(now.timestamp())}"
                book.raise_alert(_signal_of(name, target, rule, counts, caused_by), now)

    def _count(self, name: str, at_s: float, good: bool, now: datetime, n: int = 1) -> None:
        self.cases[name].add(at_s, good, now.timestamp(), n)


def _signal_of(name: str, target: Target, rule: BurnRule, counts: Counts, caused_by: str) -> Signal:
    (good, total), rate = counts, burn_rate(counts, target.share)
    return Signal(
        alert=f"objective.{name}",
        kind="objective",
        severity=rule.severity,
        message=f"{1 - good / total:.1%} take longer than {target.within_s:g} s {MEANS[name]}",
        caused_by=caused_by,
        evidence=(
            f"{total - good} of {total} in the last {rule.long}, where {1 - target.share:.2%} may",
            f"the budget of 30 days burns {rate:.1f} times too fast",
        ),
        cause=CAUSES[name],
        runbook=runbook_of("objective"),
    )
