"""The gate: which line has shown, on the same outcomes, that it is better than the champion's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

from pydantic import BaseModel, Field

from everloop_registry.domain.betting import Bet
from everloop_schemas.loop import GateSpec
from everloop_schemas.registry import BASELINE
from everloop_schemas.training import ChallengeUpdatedData

ALARM_MIN_OUTCOMES = 100
"""In an alarm epoch this many outcomes are enough, where the spec asks for more."""
PENDING = 1000
"""So many outcomes wait for word of what was served; the oldest are let go."""
ALARM_LASTS = 2000
"""So many offsets after an alarm a winner still owes its win to it, and takes the short canary."""
NOTHING: Mapping[int, float] = {}


class Challenger(BaseModel):
    """One pair: the champion's loss minus this line's. `tries` counts the rollouts it has lost in this reign."""

    bet: Bet = Field(default_factory=Bet)
    last: int
    tries: int = 0


@dataclass(frozen=True)
class Verdict:
    """A line that passed, with the evidence at the offset where it did. `epoch` is the j of its budget."""

    line: str
    log_e: float
    log_threshold: float
    outcomes: int
    epoch: int
    offset: int
    urgent: bool


class Gate(BaseModel):
    """The tests of one loop in the reign of one champion.

    `epoch` is 1 and counts up with every alarm of the reign; `last` is the last offset seen, `start` the one after
    which the tests of this epoch count, `alarm` that of the latest alarm.
    `pending` are the losses of lines on outcomes that the champion's line did not predict, until it is known how well
    what was served did.
    """

    epoch: int = 1
    last: int = -1
    start: int = -1
    alarm: int = -1
    challengers: dict[str, Challenger] = Field(default_factory=dict)
    pending: dict[int, dict[str, float]] = Field(default_factory=dict)

    def new_reign(self) -> None:
        """Another champion, or a person's word: all tests start anew, on outcomes nobody has seen."""
        self.epoch, self.start, self.challengers, self.pending = 1, self.last, {}, {}

    def on_alarm(self, offset: int) -> bool:
        """A drift alarm starts the next epoch; False for an alarm that is known already."""
        if offset <= self.alarm:
            return False
        self.alarm = offset
        self.epoch, self.start, self.challengers, self.pending = self.epoch + 1, max(self.last, offset), {}, {}
        return True

    def restart(self, line: str) -> None:
        """One line begins again after it lost a rollout, on outcomes nobody has seen and a smaller budget."""
        tries = self.challengers[line].tries if line in self.challengers else 0
        self.challengers[line] = Challenger(last=max(self.last, self.start), tries=tries + 1)

    def seen(self, offset: int) -> None:
        """Outcomes up to `offset` are not to be counted (again)."""
        self.last = max(self.last, offset)
        self.start = max(self.start, offset)

    def log_threshold(self, challenger: Challenger, alpha: float) -> float:
        """ln of 1 / (alpha / (K j (j + 1)))."""
        j = self.epoch + challenger.tries
        return log(max(1, len(self.challengers)) * j * (j + 1) / alpha)

    def observe(
        self, champion: str, update: ChallengeUpdatedData, spec: GateSpec, served: Mapping[int, float] = NOTHING
    ) -> Verdict | None:
        """Take in the losses of the lines and return the first that passes, the strongest at that outcome.

        Where the champion's line has no loss, because it broke or learns its history, the others are compared with
        what was `served` of it, by offset, as soon as that is known: here or by `settle`.
        Offsets that a pair has seen change nothing, and neither do the lines of a range told again: training may
        have had fewer then. The baseline does not challenge.
        """
        if not update.offsets or update.offsets[-1] <= self.last:
            return None
        lines = {line.line for line in update.lines} - {champion, BASELINE}
        self.challengers = {k: c for k, c in self.challengers.items() if k in lines}
        for line in sorted(lines - set(self.challengers)):
            self.challengers[line] = Challenger(last=self.start)
        verdict = None
        for i, offset in enumerate(update.offsets):
            losses = {line: loss for line in self.challengers if (loss := _loss(update, line, i)) is not None}
            reference = _loss(update, champion, i)
            if reference is None:
                self._put_off(offset, losses)
            else:
                self._count(offset, reference, losses)
                verdict = verdict or self._passed(offset, spec)
        self.last = update.offsets[-1]
        return verdict or self.settle(spec, served)

    def settle(self, spec: GateSpec, served: Mapping[int, float]) -> Verdict | None:
        """Compare what waits with what was served there; the first line that passes."""
        verdict = None
        for offset in sorted(self.pending.keys() & served.keys()):
            self._count(offset, served[offset], self.pending.pop(offset))
            verdict = verdict or self._passed(offset, spec)
        return verdict

    def _put_off(self, offset: int, losses: dict[str, float]) -> None:
        if losses:
            self.pending[offset] = losses
        while len(self.pending) > PENDING:
            del self.pending[next(iter(self.pending))]

    def _count(self, offset: int, reference: float, losses: Mapping[str, float]) -> None:
        for line, loss in losses.items():
            challenger = self.challengers.get(line)
            if challenger is not None and offset > challenger.last:
                challenger.bet.add(reference - loss)
                challenger.last = offset

    def _passed(self, offset: int, spec: GateSpec) -> Verdict | None:
        enough = min(ALARM_MIN_OUTCOMES, spec.min_outcomes) if self.epoch > 1 else spec.min_outcomes
        passed = [
            Verdict(line, log_e, bar, c.bet.outcomes, self.epoch + c.tries, offset, self._urgent(offset))
            for line, c in self.challengers.items()
            if c.bet.outcomes >= enough
            and (log_e := c.bet.log_e) >= (bar := self.log_threshold(c, 1 - spec.confidence))
        ]
        return max(passed, key=lambda v: v.log_e, default=None)

    def _urgent(self, offset: int) -> bool:
        return self.epoch > 1 and offset - self.alarm <= ALARM_LASTS


def _loss(update: ChallengeUpdatedData, line: str, i: int) -> float | None:
    losses = update.losses.get(line)
    return losses[i] if losses is not None and i < len(losses) else None
