"""Concept drift of the served error: when to raise an alarm, and at which outcome the change most likely began."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from everloop_monitoring.domain.change_point import find_rise, mean_error
from everloop_monitoring.domain.detectors import Adwin, HddmW

DetectorName = Literal["hddm_w", "adwin"]


@dataclass(frozen=True)
class DriftDetectorParameters:
    """When `DriftDetector` raises an alarm; all are counts of outcomes.

    The change point is searched for in the last `window_outcomes`. A suspicion is tested every
    `test_every_outcomes`, for `suspicion_outcomes` at most. After an alarm none follows for `cooldown_outcomes`.
    """

    window_outcomes: int = 1000
    test_every_outcomes: int = 8
    suspicion_outcomes: int = 300
    cooldown_outcomes: int = 300


@dataclass(frozen=True)
class ErrorThresholdParameters:
    """How `ErrorThreshold` turns a regression's error into 0 or 1.

    The threshold is the median of the first `reference_outcomes` errors. It is obsolete when less than
    `min_share_above` (a share) of the last `recent_outcomes` errors are above it.
    """

    reference_outcomes: int = 200
    recent_outcomes: int = 500
    min_share_above: float = 0.1


DRIFT_DETECTOR = DriftDetectorParameters()
ERROR_THRESHOLD = ErrorThresholdParameters()


@dataclass(frozen=True)
class Alarm:
    """A rise of the served error. `change_point` is the offset of the likely first outcome after the change,
    `since` how many outcomes ago that was; the errors are means on either side of it."""

    detector: DetectorName
    offset: int
    change_point: int
    since: int
    error_before: float
    error_after: float


@dataclass(slots=True)
class DriftDetector:
    """Detects a rise of one loop's served errors, each 0 or 1, by HDDM-W or rise-only ADWIN, whichever is first.

    Both assume independent errors, and real errors are correlated. So they only raise a suspicion, and the alarm
    follows once the likelihood ratio of the rise, divided by the autocorrelation time of the errors, is high enough.
    Independent errors pass at once; a suspicion that finds no evidence is dropped. After an alarm the detectors
    restart, the window drops what came before the change point, and no alarm follows during the cooldown; a
    suspicion from the cooldown is tested at its end. `seen` counts the errors added; `quiet_until` and `suspected`
    are in the same count.
    """

    hddm: HddmW = field(default_factory=HddmW)
    adwin: Adwin = field(default_factory=Adwin)
    offsets: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    seen: int = 0
    quiet_until: int = 0
    suspect: DetectorName | None = None
    suspected: int = 0

    def add(self, offset: int, error: int) -> Alarm | None:
        """Add the error of the outcome at `offset`; the alarm if this error raises one."""
        self.seen += 1
        self.offsets.append(offset)
        self.errors.append(error)
        if len(self.errors) > DRIFT_DETECTOR.window_outcomes:
            del self.offsets[0], self.errors[0]
        self._update_suspicion(error)
        if self.suspect is None or self.seen <= self.quiet_until:
            return None
        waited = self.seen - self.suspected
        is_due = waited % DRIFT_DETECTOR.test_every_outcomes == 0 or self.seen == self.quiet_until + 1
        if is_due and (k := find_rise(self.errors)):
            return self._raise_alarm(self.suspect, k)
        if waited > DRIFT_DETECTOR.suspicion_outcomes:
            self.suspect = None
        return None

    def reset(self) -> None:
        """Drop all errors: the next one belongs to another model or threshold."""
        if self.errors:
            self._restart_detectors()
            self.offsets, self.errors = [], []

    def _update_suspicion(self, error: int) -> None:
        hddm, adwin = self.hddm.add(error), self.adwin.add(error)
        if hddm or adwin:
            self._restart_detectors()
            self.suspect, self.suspected = "hddm_w" if hddm else "adwin", self.seen

    def _restart_detectors(self) -> None:
        self.hddm, self.adwin, self.suspect = HddmW(), Adwin(), None

    def _raise_alarm(self, detector: DetectorName, k: int) -> Alarm:
        before, after = self.errors[:k], self.errors[k:]
        alarm = Alarm(
            detector=detector,
            offset=self.offsets[-1],
            change_point=self.offsets[k],
            since=len(after),
            error_before=mean_error(before),
            error_after=mean_error(after),
        )
        self._restart_detectors()
        self.quiet_until = self.seen + DRIFT_DETECTOR.cooldown_outcomes
        self.offsets, self.errors = self.offsets[k:], after
        return alarm


@dataclass(slots=True)
class ErrorThreshold:
    """Turns a regression's absolute error into 0 or 1: is it above what was usual at first?

    Usual is the median of the first errors. It stays fixed, because a running median would follow a slow rise, and
    would rise by itself after a better model took over. It is replaced once errors above it have become rare.
    """

    first: list[float] = field(default_factory=list)
    usual: float | None = None
    above: list[int] = field(default_factory=list)

    def classify(self, error: float) -> int | None:
        """1 for an error above the usual one, 0 for another, None while there is no usual one yet."""
        if self.usual is None:
            self.first.append(error)
            if len(self.first) >= ERROR_THRESHOLD.reference_outcomes:
                self.usual, self.first = median(self.first), []
            return None
        is_above = int(error > self.usual)
        self.above = [*self.above[-ERROR_THRESHOLD.recent_outcomes + 1 :], is_above]
        return is_above

    @property
    def is_obsolete(self) -> bool:
        """Whether errors above the threshold are so rare that it is to be replaced."""
        recent = ERROR_THRESHOLD.recent_outcomes
        return len(self.above) >= recent and sum(self.above) < ERROR_THRESHOLD.min_share_above * recent
