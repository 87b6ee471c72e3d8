"""The watch of a loop's own alert rules: whether the condition of each holds, and for how long it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, NamedTuple, Self

from everloop_metrics import MetricInput, metric_input, score_of
from everloop_metrics.fairness import measure
from everloop_metrics.measure_window import LinePrediction, MeasureWindow
from everloop_monitoring.domain.alerts import RULE_ALERT
from everloop_monitoring.domain.fairness import ALERT_CONFIDENCE, describe, describe_extremes
from everloop_monitoring.domain.runbooks import runbook_of
from everloop_monitoring.domain.scores import append_recent
from everloop_monitoring.domain.timeline import Severity
from everloop_monitoring.domain.watch import WatchedOutcome
from everloop_schemas.conditions import Condition
from everloop_schemas.envelope import Event, derived_id
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop import METRICS, LoopSpec
from everloop_schemas.monitoring import AlertRaised, AlertRaisedData
from everloop_schemas.serving import PredictionMade

LOOK_EVERY_OUTCOMES = 20
"""A score over 500 outcomes is computed once in so many, as it takes about half a millisecond."""
MIN_OUTCOMES = 100
"""Before so many outcomes no condition on a metric holds: a score of fewer says too little."""
SERVED = "served"


class WatchedRule(NamedTuple):
    """A rule of the loop's file."""

    name: str
    when: str
    outcomes: int | None
    severity: Severity
    runbook: str | None


class Held(NamedTuple):
    """Since when a condition holds, and how many outcomes there were then; whether its alert fires."""

    since: datetime
    seen: int
    fires: bool = False


class Judged(NamedTuple):
    """A condition now: what its measure is, whether it begins to hold, or goes on to, and the evidence."""

    said: str
    begins: bool = False
    goes_on: bool = False
    evidence: tuple[str, ...] = ()


@dataclass
class RuleWatch:
    """The latest outcomes as rules need them, and the rules whose condition holds.

    `recent` has the last 500 of each metric that a rule names; `groups` are those of the fields that a rule compares,
    in what was served.
    """

    kind: ClassVar[str] = "rules"
    rules: tuple[WatchedRule, ...] = ()
    recent: dict[str, list[tuple[int, MetricInput]]] = field(default_factory=dict)
    groups: MeasureWindow = field(default_factory=MeasureWindow)
    seen: int = 0
    held: dict[str, Held] = field(default_factory=dict)

    @classmethod
    def is_on(cls, spec: LoopSpec) -> bool:
        """Whether the loop's file has rules."""
        return bool(spec.alerts)

    def follow(self, spec: LoopSpec) -> Self:
        """Itself, with the rules of this spec; metrics and groups that no rule names any more are dropped."""
        conditions = {rule.alert: Condition.parse(rule.when) for rule in spec.alerts}
        rules = tuple(
            WatchedRule(rule.alert, rule.when, rule.outcomes, rule.severity, rule.runbook)
            for rule in spec.alerts
            if _is_of(spec, conditions[rule.alert])
        )
        if rules != self.rules:
            self.rules = rules
            named = [conditions[rule.name] for rule in rules]
            metrics = {condition.measure for condition in named if not condition.fairness}
            self.recent = {metric: self.recent.get(metric, []) for metric in sorted(metrics)}
            fields = tuple(sorted({condition.fairness[0] for condition in named if condition.fairness}))
            if fields != self.groups.fields:
                self.groups = MeasureWindow(fields, max_lines=1)
        return self

    def add_prediction(self, event: PredictionMade, now: datetime) -> Sequence[Event]:
        """Nothing: rules are about outcomes."""
        return ()

    def add_outcome(self, outcome: WatchedOutcome, now: datetime) -> Sequence[Event]:
        """Count an outcome or its correction; the alerts that begin, fire or end with it."""
        offset, label, data = outcome.now.offset, outcome.now.label, outcome.event.data
        for metric, recent in self.recent.items():
            one = None if label is None else metric_input(metric, label, data.prediction, data.probabilities)
            if outcome.before is None:
                if one is not None:
                    append_recent(recent, (offset, one))
            else:
                recent[:] = [(at, one if at == offset and one else old) for at, old in recent if one or at != offset]
        if self.groups.fields:
            self._count_groups(outcome)
        self.seen += outcome.before is None
        if outcome.before is not None or self.seen % LOOK_EVERY_OUTCOMES:
            return ()
        return list(self._look(outcome.event, now))

    def _count_groups(self, outcome: WatchedOutcome) -> None:
        data = outcome.event.data
        if outcome.before is None:
            self.groups.begin_outcome(outcome.now.offset, data.features)
        served = LinePrediction(SERVED, data.prediction, data.probabilities)
        for counted, sign in ((outcome.before, -1), (outcome.now, 1)):
            if counted is not None and counted.label is not None:
                self.groups.add(counted.offset, data.features, counted.label, (served,), sign)

    def _look(self, event: OutcomeObserved, now: datetime) -> Iterator[AlertRaised]:
        known = {rule.name for rule in self.rules}
        self.held = {name: held for name, held in self.held.items() if name in known}
        scores = {metric: score_of(metric, (one for _, one in of)) for metric, of in self.recent.items()}
        for rule in self.rules:
            condition, held = Condition.parse(rule.when), self.held.get(rule.name)
            judged = self._compare(condition) if condition.fairness else self._judge(condition, scores)
            if not (judged.begins if held is None else judged.goes_on):
                if held is not None:
                    del self.held[rule.name]
                    yield _alert(event, rule, held, "resolved", judged.said, (), now)
                continue
            held = held or Held(now, self.seen)
            fires = held.fires or (rule.outcomes is not None and self.seen - held.seen + 1 >= rule.outcomes)
            if rule.name not in self.held or fires != held.fires:
                message = f"{judged.said}, and the loop's file says to tell when {condition}"
                yield _alert(event, rule, held, "firing" if fires else "pending", message, judged.evidence, now)
            self.held[rule.name] = held._replace(fires=fires)

    def _judge(self, condition: Condition, scores: dict[str, float | None]) -> Judged:
        """A condition on a metric holds where the score does."""
        score, n = scores[condition.measure], len(self.recent[condition.measure])
        if score is None:
            return Judged(f"{condition.measure} is undefined")
        holds = n >= MIN_OUTCOMES and condition.holds(score)
        return Judged(f"{condition.measure} is {score:.4g}", holds, holds, (f"over the last {n} outcomes",))

    def _compare(self, condition: Condition) -> Judged:
        """A condition on groups begins to hold where the whole interval does, and goes on while the value does.

        The largest of many differences is above 0 by chance, and is looked at again and again.
        """
        assert condition.fairness is not None, "it compares groups"
        name, kind = condition.fairness
        groups = {g: sums for g, sums in self.groups.sums_of(SERVED).fields.get(name, {}).items() if sums.outcomes}
        found, sure = measure(kind, groups), measure(kind, groups, ALERT_CONFIDENCE)
        return Judged(
            said=f"{condition.measure} is {describe(found)}",
            begins=all(bound is not None and condition.holds(bound) for bound in (sure.low, sure.high)),
            goes_on=found.value is not None and condition.holds(found.value),
            evidence=tuple(describe_extremes(condition, groups)),
        )


def _is_of(spec: LoopSpec, condition: Condition) -> bool:
    """Whether a loop of this task has what the condition is about."""
    return spec.task == "binary" if condition.fairness else condition.measure in METRICS[spec.task]


def _alert(
    event: OutcomeObserved,
    rule: WatchedRule,
    held: Held,
    state: str,
    message: str,
    evidence: tuple[str, ...],
    now: datetime,
) -> AlertRaised:
    name = f"{RULE_ALERT}{rule.name}"
    data = AlertRaisedData.model_validate(
        {
            "kind": "rule",
            "severity": rule.severity,
            "message": message,
            "alert": name,
            "state": state,
            "since": held.since,
            "evidence": evidence,
            "runbook": rule.runbook or runbook_of("rule"),
        }
    )
    return AlertRaised(
        id=derived_id(event.loop, AlertRaised.type_name(), name, state, event.id),
        time=now,
        subject="rule",
        loop=event.loop,
        revision=event.revision,
        causationid=event.id,
        data=data,
    )
