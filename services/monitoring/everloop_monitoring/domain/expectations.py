"""Watches what a loop expects of the values of fields: how many observations meet it, and when too few do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import exp, log
from typing import Any, ClassVar, NamedTuple, Self

from everloop_features.expectations import describe, is_met, name_of
from everloop_monitoring.domain.data_drift.seen import SeenIds
from everloop_monitoring.domain.watch import WatchedOutcome
from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetter
from everloop_schemas.envelope import Event, Scalar, derived_id
from everloop_schemas.ingest import EventReceived
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitor_spec import ExpectationSpec
from everloop_schemas.monitoring import AlertRaised, AlertRaisedData
from everloop_schemas.serving import ObservationReceived, PredictionMade

BLOCK_VALUES, WINDOW_BLOCKS = 100, 10
"""The window has at most so many blocks of so many values, and is looked at after each of them."""
LEVEL = 1e-4
"""The probability of a false alarm at one look."""
MAX_SAID_CHARACTERS = 300
INGEST_LETTER = DEAD_LETTERS["ingest"].type_name()
Observation = EventReceived | ObservationReceived


def watched_expectations(spec: LoopSpec) -> tuple[ExpectationSpec, ...]:
    """What a spec expects of fields that are not personal."""
    return tuple(one for one in spec.expect if one.field not in spec.personal_fields)


def expectation_alert(expectation: ExpectationSpec) -> str:
    """The name of the alert that too few observations meet it."""
    return f"expectation.{name_of(expectation)}"


@dataclass(slots=True)
class Check:
    """One expectation: `blocks` are the values that counted and those of them that broke it, the latest block last."""

    blocks: list[tuple[int, int]] = field(default_factory=list)
    n: int = 0
    broken: int = 0
    is_open: bool = False

    def add(self, met: bool) -> bool:
        """Add a value; whether a block is complete."""
        self.n += 1
        self.broken += not met
        if self.n < BLOCK_VALUES:
            return False
        self.blocks = [*self.blocks[1 - WINDOW_BLOCKS :], (self.n, self.broken)]
        self.n = self.broken = 0
        return True

    def window(self) -> tuple[int, int]:
        """The values of the complete blocks, and how many of them broke the expectation."""
        return sum(n for n, _ in self.blocks), sum(broken for _, broken in self.blocks)

    def latest(self) -> tuple[int, int]:
        """The window with the values since its last block."""
        n, broken = self.window()
        return n + self.n, broken + self.broken


def probability_of_breaks(n: int, broken: int, allowed: float) -> float:
    """An upper bound of the probability that so many of n values break what `allowed` of them may break.

    Chernoff's bound by the Kullback-Leibler divergence (Hoeffding 1963, theorem 1). 1 where no more do than may.
    """
    share = broken / n if n else 0.0
    if share <= allowed:
        return 1.0
    if allowed <= 0.0:
        return 0.0
    divergence = share * log(share / allowed)
    if share < 1.0:
        divergence += (1 - share) * log((1 - share) / (1 - allowed))
    return exp(-n * divergence)


class Cause(NamedTuple):
    """The record that completed a block: its id, its loop and revision, and what it says of the value."""

    id: str
    loop: str
    revision: int
    said: str

    @classmethod
    def of(cls, event: Observation, expected: ExpectationSpec) -> Self:
        """An observation."""
        value: Scalar | None = event.data.fields.get(expected.field)
        return cls(event.id, event.loop, event.revision, f"the last value is {str(value)[:80]}")


@dataclass
class ExpectationWatch:
    """Counts the observations that a loop accepted or refused, by the `expected` of its spec, each id once."""

    kind: ClassVar[str] = "expectations"
    expected: tuple[ExpectationSpec, ...] = ()
    checks: list[Check] = field(default_factory=list)
    seen: SeenIds = field(default_factory=SeenIds)

    @classmethod
    def is_on(cls, spec: LoopSpec) -> bool:
        """Whether the spec expects anything of fields that are not personal: of these ingest alone sees the values."""
        return bool(watched_expectations(spec))

    def follow(self, spec: LoopSpec) -> Self:
        """Itself, or a watch that keeps the counts of the expectations that have not changed."""
        watched = watched_expectations(spec)
        if watched == self.expected:
            return self
        known = list(zip(self.expected, self.checks, strict=True))
        checks = [next((check for one, check in known if one == expected), Check()) for expected in watched]
        return type(self)(watched, checks, self.seen)

    def add_prediction(self, event: PredictionMade, now: datetime) -> Sequence[Event]:
        """Predictions are of observations, which were counted."""
        return ()

    def add_outcome(self, outcome: WatchedOutcome, now: datetime) -> Sequence[Event]:
        """Outcomes are of observations, which were counted."""
        return ()

    def add_observation(self, event: Observation, now: datetime) -> Sequence[Event]:
        """Add an observation once; the alerts that begin or end with it."""
        if not self.seen.add(event.id):
            return ()
        told, fields = list[Event](), event.data.fields
        for expected, check in zip(self.expected, self.checks, strict=True):
            met = is_met(expected, fields.get(expected.field))
            if (
                met is not None
                and check.add(met)
                and (alert := _judge(expected, check, Cause.of(event, expected), now))
            ):
                told.append(alert)
        return told

    def add_refusals(self, letter: DeadLetter, now: datetime) -> Sequence[Event]:
        """Add what ingest refused, as often as the letter says; once, however often the letter comes."""
        refused = letter.data.unexpected or {}
        if letter.type != INGEST_LETTER or not self.seen.add(letter.id):
            return ()
        told, cause = list[Event](), Cause(letter.id, letter.loop, letter.revision, letter.data.reason)
        for expected, check in zip(self.expected, self.checks, strict=True):
            count = refused.get(name_of(expected), 0) if expected.then == "dead_letter" else 0
            for _ in range(min(count, WINDOW_BLOCKS * BLOCK_VALUES)):
                if check.add(False) and (alert := _judge(expected, check, cause, now)):
                    told.append(alert)
        return told


def _judge(expected: ExpectationSpec, check: Check, cause: Cause, now: datetime) -> AlertRaised | None:
    n, broken = check.window()
    if check.is_open:
        if broken / n > _allowed(expected):
            return None
        check.is_open = False
        return _build_alert(expected, n, broken, cause, now, "resolved")
    if probability_of_breaks(n, broken, _allowed(expected)) > LEVEL:
        return None
    check.is_open = True
    return _build_alert(expected, n, broken, cause, now, "firing")


def _allowed(expected: ExpectationSpec) -> float:
    return 1 - expected.share


def _build_alert(
    expected: ExpectationSpec, n: int, broken: int, cause: Cause, now: datetime, state: Any
) -> AlertRaised:
    name, what = expectation_alert(expected), f"{expected.field} is expected to be {describe(expected)}"
    said = f"{1 - broken / n:.2%} of the last {n:,} observations are, {expected.share:.2%} must be"
    refuses = expected.then == "dead_letter"
    return AlertRaised(
        id=derived_id(cause.loop, AlertRaised.type_name(), name, state, cause.id),
        time=now,
        subject="expectation",
        loop=cause.loop,
        revision=cause.revision,
        causationid=cause.id,
        data=AlertRaisedData(
            kind="expectation",
            severity="warning",
            message=f"{what}: {said}",
            alert=name,
            state=state,
            evidence=(said, cause.said[:MAX_SAID_CHARACTERS]),
            cause=f"{expected.field} has changed at its source",
            doing="ingest refuses what breaks it, and keeps some of that as dead letters" if refuses else None,
        ),
    )
