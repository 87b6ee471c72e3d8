"""The gate: which line has shown, on the same outcomes, that it is better than the champion's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from operator import sub

from pydantic import BaseModel, Field

from everloop_registry.domain.betting import BettingTest
from everloop_registry.domain.requirements import Unmet, find_unmet
from everloop_schemas.loop_parts import GateSpec
from everloop_schemas.registry import BASELINE
from everloop_schemas.training import ChallengeUpdatedData, Measured, RankedBlock

ALARM_MIN_OUTCOMES = 100
"""The outcomes that are enough in a test epoch that an alarm began, where the spec asks for more."""
MAX_PENDING_OUTCOMES = 1000
"""The limit of outcomes that wait until the loss of what was served is known; the oldest are dropped first."""
URGENT_WINDOW_OFFSETS = 2000
"""The offsets after an alarm within which a win is urgent: its rollout has no shadow and a short canary."""
MAX_PENDING_BLOCKS = 100
"""The same limit for blocks of outcomes."""
NO_LOSSES: Mapping[int, float] = {}
NO_BLOCKS: Mapping[int, tuple[float, ...]] = {}


class Challenger(BaseModel):
    """The test of one line against the champion's line, on the champion's loss minus the line's.

    `last_offset` is the last offset counted; `lost_rollouts` counts the rollouts that the line has lost to this
    champion. `measures` is what training measured of it for the requirements, `told` those of them that it was said to
    be held back by.
    """

    bet: BettingTest = Field(default_factory=BettingTest)
    last_offset: int
    lost_rollouts: int = 0
    measures: dict[str, Measured] = Field(default_factory=dict)
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateWin:
    """A line that passed the gate, with the evidence at the offset where it did. `epoch` is the j of its budget."""

    line: str
    log_e: float
    log_threshold: float
    outcomes: int
    epoch: int
    offset: int
    urgent: bool


@dataclass(frozen=True)
class HeldBack:
    """A line with the evidence of a win that does not meet the requirements, as far as the gate has seen."""

    win: GateWin
    unmet: tuple[Unmet, ...]


class Gate(BaseModel):
    """The tests of one loop's challengers against one champion.

    `epoch` numbers the test epochs of this champion: 1, and one more with every alarm. `last_offset` is the last
    offset seen, `start_offset` the one after which outcomes count in this epoch, `alarm_offset` that of the latest
    alarm. `pending` are the losses of lines on outcomes that the champion's line did not predict, until the loss of
    what was served is known; so are `pending_blocks`, for a metric of ranks.
    """

    epoch: int = 1
    last_offset: int = -1
    start_offset: int = -1
    alarm_offset: int = -1
    challengers: dict[str, Challenger] = Field(default_factory=dict)
    pending: dict[int, dict[str, float]] = Field(default_factory=dict)
    pending_blocks: dict[int, RankedBlock] = Field(default_factory=dict)

    def restart_for_champion(self) -> None:
        """Restart all tests in epoch 1, on unseen outcomes: the champion changed, or a person resumed the loop."""
        self._restart(epoch=1, start_offset=self.last_offset)

    def restart_for_alarm(self, offset: int) -> bool:
        """Start the next test epoch for a drift alarm; False for an alarm that is known already."""
        if offset <= self.alarm_offset:
            return False
        self.alarm_offset = offset
        self._restart(epoch=self.epoch + 1, start_offset=max(self.last_offset, offset))
        return True

    def restart_line(self, line: str) -> None:
        """Restart the test of a line that lost a rollout, on unseen outcomes and with a smaller budget."""
        lost = self.challengers[line].lost_rollouts if line in self.challengers else 0
        self.challengers[line] = Challenger(
            last_offset=max(self.last_offset, self.start_offset), lost_rollouts=lost + 1
        )

    def skip_to(self, offset: int) -> None:
        """Do not count outcomes up to `offset`."""
        self.last_offset = max(self.last_offset, offset)
        self.start_offset = max(self.start_offset, offset)

    def log_threshold(self, challenger: Challenger, alpha: float) -> float:
        """ln of 1 / (alpha / (K j (j + 1)))."""
        j = self.epoch + challenger.lost_rollouts
        return log(max(1, len(self.challengers)) * j * (j + 1) / alpha)

    def observe(
        self,
        champion: str,
        update: ChallengeUpdatedData,
        spec: GateSpec,
        served: Mapping[int, float] = NO_LOSSES,
        served_blocks: Mapping[int, tuple[float, ...]] = NO_BLOCKS,
        *,
        by_rank: bool = False,
    ) -> GateWin | None:
        """Take in the losses of the lines and return the first that passes, the strongest at that outcome.

        By a metric of ranks, `by_rank`, blocks of outcomes are compared, else single ones. Where the champion's line
        has no loss, because it failed or is still learning its history, the others are compared with `served`, the
        losses by offset of what its versions predicted, or with `served_blocks`, here or by `compare_pending`. Offsets
        that a pair has seen change nothing, and a repeated range does not remove lines: training may have had fewer
        when it first sent it. The baseline does not challenge.
        """
        if not update.offsets or update.offsets[-1] <= self.last_offset:
            return None
        self._follow_lines(champion, update)
        compare = self._compare_blocks if by_rank else self._compare_outcomes
        win = compare(champion, update, spec)
        self.last_offset = update.offsets[-1]
        return win or self.compare_pending(spec, served, served_blocks)

    def take_held_back(self, spec: GateSpec) -> list[HeldBack]:
        """The lines that a requirement holds back, each once for a requirement."""
        held = []
        for win in self._find_wins(self.last_offset, spec) if spec.require else ():
            challenger = self.challengers[win.line]
            unmet = find_unmet(spec.require, challenger.measures)
            if new := [one.key for one in unmet if one.key not in challenger.told]:
                challenger.told = (*challenger.told, *new)
                held.append(HeldBack(win, tuple(unmet)))
        return held

    def compare_pending(
        self,
        spec: GateSpec,
        served: Mapping[int, float],
        served_blocks: Mapping[int, tuple[float, ...]] = NO_BLOCKS,
    ) -> GateWin | None:
        """Compare pending losses with those of what was served on the same outcomes; the first line that passes."""
        win = None
        for offset in sorted(self.pending.keys() & served.keys()):
            self._add_evidence(offset, served[offset], self.pending.pop(offset))
            win = win or self._find_strongest_win(offset, spec)
        for end in sorted(self.pending_blocks.keys() & served_blocks.keys()):
            self._add_block(self.pending_blocks.pop(end), served_blocks[end])
            win = win or self._find_strongest_win(end, spec)
        return win

    def _restart(self, epoch: int, start_offset: int) -> None:
        self.epoch, self.start_offset, self.challengers = epoch, start_offset, {}
        self.pending, self.pending_blocks = {}, {}

    def _follow_lines(self, champion: str, update: ChallengeUpdatedData) -> None:
        lines = {line.line for line in update.lines} - {champion, BASELINE}
        self.challengers = {k: c for k, c in self.challengers.items() if k in lines}
        for line in sorted(lines - set(self.challengers)):
            self.challengers[line] = Challenger(last_offset=self.start_offset)
        for line, challenger in self.challengers.items():
            challenger.measures = update.measures.get(line, {})

    def _compare_outcomes(self, champion: str, update: ChallengeUpdatedData, spec: GateSpec) -> GateWin | None:
        win = None
        for i, offset in enumerate(update.offsets):
            losses = {line: loss for line in self.challengers if (loss := _loss_of(update, line, i)) is not None}
            reference = _loss_of(update, champion, i)
            if reference is None:
                self._add_pending(offset, losses)
            else:
                self._add_evidence(offset, reference, losses)
                win = win or self._find_strongest_win(offset, spec)
        return win

    def _compare_blocks(self, champion: str, update: ChallengeUpdatedData, spec: GateSpec) -> GateWin | None:
        win = None
        for block in update.blocks:
            if champion in block.losses:
                self._add_block(block, block.losses[champion])
                win = win or self._find_strongest_win(block.end, spec)
            elif self.challengers.keys() & block.losses.keys():
                self.pending_blocks[block.end] = block
                if len(self.pending_blocks) > MAX_PENDING_BLOCKS:
                    del self.pending_blocks[next(iter(self.pending_blocks))]
        return win

    def _add_pending(self, offset: int, losses: dict[str, float]) -> None:
        if losses:
            self.pending[offset] = losses
        while len(self.pending) > MAX_PENDING_OUTCOMES:
            del self.pending[next(iter(self.pending))]

    def _add_evidence(self, offset: int, reference: float, losses: Mapping[str, float]) -> None:
        for line, loss in losses.items():
            challenger = self.challengers.get(line)
            if challenger is not None and offset > challenger.last_offset:
                challenger.bet.add(reference - loss)
                challenger.last_offset = offset

    def _add_block(self, block: RankedBlock, reference: tuple[float, ...]) -> None:
        """Bet on each comparison of a block, all of whose outcomes are unseen."""
        for line, challenger in self.challengers.items():
            losses = block.losses.get(line)
            if losses is not None and block.start > challenger.last_offset:
                challenger.bet.add_block(map(sub, reference, losses), block.outcomes)
                challenger.last_offset = block.end

    def _find_strongest_win(self, offset: int, spec: GateSpec) -> GateWin | None:
        """The strongest win of a line that meets every requirement."""
        wins = self._find_wins(offset, spec)
        if wins and spec.require:
            wins = [win for win in wins if not find_unmet(spec.require, self.challengers[win.line].measures)]
        return max(wins, key=lambda win: win.log_e, default=None)

    def _find_wins(self, offset: int, spec: GateSpec) -> list[GateWin]:
        enough = min(ALARM_MIN_OUTCOMES, spec.min_outcomes) if self.epoch > 1 else spec.min_outcomes
        urgent = self.epoch > 1 and offset - self.alarm_offset <= URGENT_WINDOW_OFFSETS
        return [
            GateWin(line, c.bet.log_e, threshold, c.bet.outcomes, self.epoch + c.lost_rollouts, offset, urgent)
            for line, c in self.challengers.items()
            if c.bet.outcomes >= enough and c.bet.reaches(threshold := self.log_threshold(c, 1 - spec.confidence))
        ]


def _loss_of(update: ChallengeUpdatedData, line: str, i: int) -> float | None:
    losses = update.losses.get(line)
    return losses[i] if losses is not None and i < len(losses) else None
