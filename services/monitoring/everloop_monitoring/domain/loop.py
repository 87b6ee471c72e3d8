"""One loop's outcomes folded into its scores: each prediction once, judged by the last word on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import fsum
from typing import NamedTuple

from everloop_features.sources import Sources
from everloop_metrics import brier, heard
from everloop_monitoring.domain.contradictions import Contradictions
from everloop_monitoring.domain.drift import Alarm, Reference, Watch
from everloop_monitoring.domain.measure import DEFAULTS, Measure, Said, baselines_said, share
from everloop_monitoring.domain.scores import ROLLING, Baselines, Errors, Sums, VersionTally, error
from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import SERVED_ERROR, DriftKind
from everloop_schemas.registry import BASELINE
from everloop_shared.arithmetic import Spread

POINT_EVERY = 50
NOTHING = Sums()


class Known(NamedTuple):
    """What is kept of an outcome, so that a correction can undo it: the label, and what the baselines had said.

    `chance` is the probability in the majority's word that the loop's metric looks at.
    """

    offset: int
    label: Scalar | None
    correction: int
    no_change: Scalar
    majority: Scalar
    chance: float | None = None


@dataclass(slots=True)
class Work:
    """The state of one loop that the next outcome needs.

    `outcomes` counts distinct predictions with an outcome, `scored` those whose label is known. `recent` holds
    the last `ROLLING` scored outcomes, `by_version` the last errors of each version seen lately. `spread` is the
    scale of a regression's losses, the same as training's. `measure` is what the loop's metric needs.
    """

    outcomes: int = 0
    scored: int = 0
    sums: Sums = NOTHING
    baselines: Baselines = field(default_factory=Baselines)
    recent: list[tuple[int, Errors]] = field(default_factory=list)
    by_version: dict[str, tuple[int, list[float]]] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)
    reference: Reference = field(default_factory=Reference)
    spread: Spread = field(default_factory=Spread)
    sources: Sources = field(default_factory=Sources)
    contradictions: Contradictions = field(default_factory=Contradictions)
    measure: Measure = field(default_factory=Measure)

    def rolling(self, regression: bool) -> Errors:
        """Scores over the last `ROLLING` outcomes."""
        if not self.recent:
            return Errors()
        sides = zip(*(errors for _, errors in self.recent), strict=True)
        return Errors(*(fsum(side) / len(self.recent) for side in sides)).scores(regression)


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the curves: scores over the last `ROLLING` outcomes when the loop had `outcomes`."""

    outcomes: int
    scores: Errors
    version: str


@dataclass(frozen=True, slots=True)
class Drift:
    """An alarm, with the version served on the outcome that raised it, and the loop's outcomes so far.

    `kind` and `subject` say what has changed, as in `DriftDetectedData`.
    """

    alarm: Alarm
    version: str
    outcomes: int
    kind: DriftKind = "concept"
    subject: str = SERVED_ERROR


@dataclass(slots=True)
class Fold:
    """Folds a batch of one loop's outcomes into `work`, and holds what the batch adds.

    `known` is what was kept before of the outcomes in the batch, by prediction id; it is updated. `losses[i]`, by
    version and in [0, 1], belongs to `offsets[i]`. `rising` is what a person is to be told of contradictions since
    the outcome taken last.
    """

    spec: LoopSpec
    work: Work
    known: dict[str, Known] = field(default_factory=dict)
    tallies: dict[str, VersionTally] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)
    rising: str | None = None

    @property
    def regression(self) -> bool:
        """Whether labels are numbers to come close to."""
        return self.spec.task == "regression"

    def drain(self) -> tuple[tuple[int, ...], tuple[str, ...], list[dict[str, float]]]:
        """Offsets, served versions and losses since the last time."""
        drained = tuple(self.offsets), tuple(self.served), self.losses
        self.offsets, self.served, self.losses = [], [], []
        return drained

    def take(self, outcome: OutcomeObservedData, offset: int) -> Drift | None:
        """Take in the outcome at `offset`; a word already heard changes nothing. The drift if this one shows it."""
        before, self.rising = self.known.get(outcome.prediction_id), None
        if before is None:
            return self._first_word(outcome, offset)
        if outcome.correction > before.correction:
            self._correction(outcome, before)
        return None

    def _first_word(self, outcome: OutcomeObservedData, offset: int) -> Drift | None:
        work, guess = self.work, self.spec.first_answer
        label = outcome.label if self._decides(outcome) else None
        now = Known(
            offset=offset,
            label=label,
            correction=outcome.correction,
            no_change=work.baselines.no_change(guess),
            majority=work.baselines.majority(self.regression, guess),
            chance=share(self.spec.metric, label, work.baselines),
        )
        self.known[outcome.prediction_id] = now
        work.outcomes += 1
        if label is None:
            return None
        work.contradictions.agreed()
        errors = self._count(outcome, now, 1)
        work.recent = [*work.recent[-ROLLING + 1 :], (offset, errors)]
        work.measure.heard(self.spec.metric, offset, self._said(outcome, now))
        work.baselines.learn(self.regression, label, offset)
        self._evaluate(outcome, offset)
        if self.regression:
            work.spread.add(label)
        if work.scored % POINT_EVERY == 0:
            self.points.append(Point(work.outcomes, work.rolling(self.regression), outcome.version))
        alarm = self._watch(outcome, offset, errors.served)
        return Drift(alarm, outcome.version, work.outcomes) if alarm else None

    def _correction(self, outcome: OutcomeObservedData, before: Known) -> None:
        label = self._corrected(outcome, before)
        chance = before.chance if label == before.label else share(self.spec.metric, label, self.work.baselines)
        now = before._replace(label=label, correction=outcome.correction, chance=chance)
        self.known[outcome.prediction_id] = now
        if before.label == now.label:
            return
        if before.label is not None:
            self._count(outcome, before, -1)
        errors = self._count(outcome, now, 1) if now.label is not None else None
        self.work.measure.corrected(before.offset, self._said(outcome, before), self._said(outcome, now))
        self.work.baselines.correct(self.regression, before.label, now.label, before.offset)
        self.work.recent = [
            (at, errors if at == before.offset and errors else old)
            for at, old in self.work.recent
            if at != before.offset or errors
        ]

    def _decides(self, outcome: OutcomeObservedData) -> bool:
        """Whether what is said of a prediction, where nothing was known, counts as its truth."""
        if outcome.label is None or self.work.sources.decides(outcome.kind == "label", outcome.source):
            return True
        self.work.contradictions.unheard += 1
        self._contradicted(outcome)
        return False

    def _corrected(self, outcome: OutcomeObservedData, before: Known) -> Scalar | None:
        """The label of an outcome that was known, after one more word on it."""
        contradictions = self.work.contradictions
        if outcome.disputed:
            contradictions.disputed += 1
            self._contradicted(outcome)
        if outcome.label == before.label:
            return before.label
        if before.label is None:
            return outcome.label if self._decides(outcome) else None
        if outcome.kind == "feedback" and not self.work.sources.decides(False, outcome.source):
            contradictions.unheard += 1
            self._contradicted(outcome)
            return before.label
        contradictions.changed += 1
        self._contradicted(outcome)
        return outcome.label

    def _contradicted(self, outcome: OutcomeObservedData) -> None:
        feedback = f"feedback of {outcome.source!r}" if outcome.source else "feedback without a source"
        self.rising = self.work.contradictions.contradicted(feedback if outcome.kind == "feedback" else "labels")

    def _count(self, outcome: OutcomeObservedData, known: Known, sign: int) -> Errors:
        """Count an outcome with `known.label` into the sums, or with sign -1 out of them."""
        assert known.label is not None, "only labelled outcomes count"
        work = self.work
        for version, prediction in self._predictions(outcome):
            tally = self.tallies.setdefault(version, VersionTally())
            tally.add(error(self.regression, prediction, known.label), version == outcome.version, sign)
        errors = Errors(
            served=error(self.regression, outcome.prediction, known.label),
            no_change=error(self.regression, known.no_change, known.label),
            majority=error(self.regression, known.majority, known.label),
        )
        work.scored += sign
        work.sums = work.sums.plus(errors, sign)
        return errors

    def _said(self, outcome: OutcomeObservedData, known: Known) -> Said | None:
        if known.label is None or self.spec.metric in DEFAULTS:
            return None
        served = heard(self.spec.metric, known.label, outcome.prediction, outcome.probabilities)
        return served, *baselines_said(self.spec.metric, known.label, known.no_change, known.majority, known.chance)

    def _predictions(self, outcome: OutcomeObservedData) -> list[tuple[str, Scalar]]:
        return [(version, prediction) for version, prediction, _ in self._words(outcome)]

    def _words(self, outcome: OutcomeObservedData) -> list[tuple[str, Scalar, Mapping[str, float] | None]]:
        shadows = [(s.version, s.prediction, s.probabilities) for s in outcome.shadows if s.version != outcome.version]
        return [(outcome.version, outcome.prediction, outcome.probabilities), *shadows]

    def _evaluate(self, outcome: OutcomeObservedData, offset: int) -> None:
        """Losses in [0, 1], as training's: 0 or 1 for a class, or half the Brier score where the metric is log_loss;
        e / (e + width) for a number."""
        assert outcome.label is not None, "only labelled outcomes count"
        work, losses, proper = self.work, {}, self.spec.metric == "log_loss"
        for version, prediction, probabilities in self._words(outcome):
            e = error(self.regression, prediction, outcome.label)
            losses[version] = work.spread.loss(e) if self.regression else e
            if proper and probabilities:
                losses[version] = brier(outcome.label, probabilities)
            recent = work.by_version.get(version, (0, []))[1]
            work.by_version[version] = (work.outcomes, [*recent[-ROLLING + 1 :], e])
        for version, (last, _) in list(work.by_version.items()):
            if last < work.outcomes - ROLLING:
                del work.by_version[version]
        self.offsets.append(offset)
        self.served.append(outcome.version)
        self.losses.append(losses)

    def _watch(self, outcome: OutcomeObservedData, offset: int, served: float) -> Alarm | None:
        """The served error goes to the watch, unless the baseline served: it has no concept that could drift."""
        work = self.work
        if outcome.version == BASELINE:
            work.watch.restart()
            work.reference = Reference()
            return None
        if not self.regression:
            return work.watch.add(offset, int(served))
        if work.reference.outgrown:
            work.watch.restart()
            work.reference = Reference()
        verdict = work.reference.judge(served)
        alarm = None if verdict is None else work.watch.add(offset, verdict)
        if alarm:
            work.reference = Reference()
        return alarm
