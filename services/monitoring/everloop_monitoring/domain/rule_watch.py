"""The watch of a loop's own alert rules: whether the condition of each holds, and for how long it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, NamedTuple, Self

from everloop_metrics import MetricInput, metric_input, score_of
from everloop_monitoring.domain.alerts import RULE_ALERT
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
"""Before so many outcomes no condition holds: a score of fewer says too little."""


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


@dataclass
class RuleWatch:
    """The latest 500 outcomes as each metric that a rule names needs them, and the rules whose condition holds."""

    kind: ClassVar[str] = "rules"
    rules: tuple[WatchedRule, ...] = ()
    recent: dict[str, list[tuple[int, MetricInput]]] = field(default_factory=dict)
    seen: int = 0
    held: dict[str, Held] = field(default_factory=dict)

    @classmethod
    def is_on(cls, spec: LoopSpec) -> bool:
        """Whether the loop's file has rules."""
        return bool(spec.alerts)

    def follow(self, spec: LoopSpec) -> Self:
        """Itself, with the rules of this spec; metrics that no rule names any more are dropped."""
        rules = tuple(
            WatchedRule(rule.alert, rule.when, rule.outcomes, rule.severity, rule.runbook)
            for rule in spec.alerts
            if Condition.parse(rule.when).measure in METRICS[spec.task]
        )
        if rules != self.rules:
            self.rules = rules
            metrics = {Condition.parse(rule.when).measure for rule in rules}
            self.recent = {metric: self.recent.get(metric, []) for metric in sorted(metrics)}
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
        self.seen += outcome.before is None
        if outcome.before is not None or self.seen % LOOK_EVERY_OUTCOMES:
            return ()
        scores = {metric: score_of(metric, (one for _, one in of)) for metric, of in self.recent.items()}
        return list(self._look(outcome.event, scores, now))

    def _look(self, event: OutcomeObserved, scores: dict[str, float | None], now: datetime) -> Iterator[AlertRaised]:
        known = {rule.name for rule in self.rules}
        self.held = {name: held for name, held in self.held.items() if name in known}
        for rule in self.rules:
            condition = Condition.parse(rule.when)
            score, held = scores[condition.measure], self.held.get(rule.name)
            enough = len(self.recent[condition.measure]) >= MIN_OUTCOMES
            if score is None or not enough or not condition.holds(score):
                if held is not None:
                    del self.held[rule.name]
                    said = "undefined" if score is None else f"{score:.4g}"
                    yield _alert(event, rule, held, "resolved", f"{condition.measure} is {said}", (), now)
                continue
            held = held or Held(now, self.seen)
            fires = held.fires or (rule.outcomes is not None and self.seen - held.seen + 1 >= rule.outcomes)
            if rule.name not in self.held or fires != held.fires:
                message = f"{condition.measure} is {score:.4g}, and the loop's file says to tell when {condition}"
                evidence = (f"over the last {len(self.recent[condition.measure])} outcomes",)
                state = "firing" if fires else "pending"
                yield _alert(event, rule, held, state, message, evidence, now)
            self.held[rule.name] = held._replace(fires=fires)


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
