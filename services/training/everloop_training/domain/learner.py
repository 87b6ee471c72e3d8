"""One loop's learner: its lines, its runs and its versions, folded from the outcome log."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Literal

from everloop_learning.version import Version, line_of
from everloop_models.baseline import Baseline
from everloop_models.losses import Losses
from everloop_schemas.envelope import Event
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import BASELINE, LoopState
from everloop_schemas.training import Line, RunRequested
from everloop_training.domain.challenge import Challenge
from everloop_training.domain.firsts import Firsts
from everloop_training.domain.lines import LearningLine, slug
from everloop_training.domain.outcome import Outcome
from everloop_training.domain.repeats import Repeats
from everloop_training.domain.roster import WARM, Gap, Roster
from everloop_training.domain.triggers import WINDOW, Cause, Triggers
from everloop_training.domain.versions import Versions
from everloop_training.domain.voice import Tools, Voice, run_id

LATE_MODEL_OFFSETS = 20_000
RUNS = 1_000
"""So many runs of a loop are remembered; an alert that comes again after so many is a run of its own."""


class LoopLearner:
    """All lines of a loop. Every outcome is predicted by each before it is learned.

    Feed it the records of the outcome log in order (those seen are ignored), states, alerts and requests, and
    `take` the events. Pickled, it is the loop's part of a snapshot; `restored` makes it work again.
    """

    def __init__(self, state: LoopState, partition: int, tools: Tools) -> None:
        spec = state.data.spec
        self.state, self.loop, self.partition = state, state.loop, partition
        self.position = -1
        self.first_offset: int | None = None
        self.outcomes = 0
        self.baseline, self.losses = Baseline(spec), Losses(spec)
        self.roster = Roster(self.losses, Voice(state.loop, partition, tools))
        self.requests: dict[str, RunRequested] = {}
        self.known: list[RunRequested] = []
        self.finished: frozenset[str] = frozenset()
        self.spec_lines: dict[str, str] = {}
        self.fresh, self.previous = BASELINE, BASELINE
        self.triggers, self.repeats, self.firsts = Triggers(), Repeats(), Firsts()
        self.waiting: DriftDetected | None = None
        self.recent_offsets: deque[int] = deque(maxlen=WINDOW)
        self.versions = Versions(self.roster, self.roster.voice)
        self._attach(tools)
        self.versions.heed(state)

    def _attach(self, tools: Tools) -> None:
        self.voice = Voice(self.loop, self.partition, tools)
        self.roster.attach(self.voice)
        self.versions.attach(self.voice)
        self._challenge = Challenge()
        self._spec_checked = -1
        self.live = False

    def __getstate__(self) -> dict[str, Any]:
        transient = ("voice", "_challenge", "_spec_checked", "live")
        return {k: v for k, v in vars(self).items() if k not in transient}

    def restored(self, tools: Tools) -> None:
        """Give a learner out of a snapshot what the snapshot does not hold."""
        self._attach(tools)

    def take(self) -> list[Event]:
        """The events since the last call, in order: what has been fed so far has led to them."""
        self._tell()
        if self.live:
            self.versions.pay()
        events, self.voice.events = self.voice.events, []
        return events

    # outcomes

    def learn(self, outcome: Outcome) -> None:
        """Take in the next record of the outcome log; one that lies there a second time only moves the position."""
        if outcome.offset <= self.position:
            return
        self._adopt(outcome.offset)
        if self.repeats.again(outcome):
            self.position, self.roster.next = outcome.offset, outcome.offset + 1
            return
        outcome = self.firsts.judged(outcome)
        if self.first_offset is None:
            self.first_offset = outcome.offset
        self._ensure_spec_lines(outcome)
        self.position = outcome.offset
        self.triggers.count(self.state.data.spec, outcome, self._learn_label(outcome))
        self.roster.passed(outcome)
        cause = self.triggers.due(self.state.data.spec, outcome, self.outcomes)
        if cause and not (self.known and self.known[-1].data.requested_offset >= outcome.offset):
            self.voice.events.append(self._start(cause, outcome.id, self._from(cause)))
        self.answer_waiting()

    def _learn_label(self, outcome: Outcome) -> bool:
        """Let all lines learn; False where there is nothing to learn."""
        label = outcome.label
        if not outcome.learnable or label is None or (self.losses.regression and isinstance(label, str)):
            return False
        losses = {BASELINE: self.losses.loss(label, *self.baseline.predict())}
        learned = self.roster.learn(outcome)
        for name, loss in learned.items():
            line = self.roster.lines[name].line
            if outcome.offset > line.requested_offset:
                losses[name] = loss
                self._challenge.lines[name] = line
        self.baseline.learn(label)
        self.losses.learn(label)
        self.outcomes += 1
        self.recent_offsets.append(outcome.offset)
        self._challenge.add(outcome.offset, losses)
        for name in learned:
            self._ripen(self.roster.lines[name])
        if self._challenge.full:
            self._tell()
        return True

    def _ripen(self, line: LearningLine) -> None:
        """What a line has become with the outcome it has just learned: trained, or a version."""
        data = self.state.data
        if not line.finished and line.outcomes >= WARM:
            line.finished = True
            if line.trigger == "initial" and line.name == self.spec_lines.get(_key(data.spec.models[0])):
                self._become(line, "initial")
            self.voice.finished(line)
        if line.outcomes % max(1, data.spec.refresh.every) == 0 and not data.pinned:
            live = [v.version for v in (data.champion, data.candidate) if v and line_of(v.version) == line.name]
            if live and max(Version.parse(v).offset for v in live) < line.offset:
                self._become(line, "refresh")

    def _become(self, line: LearningLine, reason: Literal["initial", "refresh"]) -> None:
        self._tell()
        self.versions.make(line, reason)

    def _tell(self) -> None:
        if self._challenge.offsets:
            self.voice.challenged(self.state.revision, self._challenge)
            self._challenge = Challenge()

    # lines

    def follow(self, state: LoopState) -> None:
        """Take in the loop's state: who is champion decides which lines learn; an older one changes nothing."""
        before, after = self.state.data, state.data
        if after.sequence <= before.sequence:
            return
        self.state = state
        if line_of(before.champion.version) != line_of(after.champion.version):
            self.previous = line_of(before.champion.version)
        if before.spec.retrain.on_schedule != after.spec.retrain.on_schedule:
            self.triggers.next_fire = None
        self.losses.brier = after.spec.metric == "log_loss"
        self.versions.heed(state)
        self._keep()

    def _keep(self) -> None:
        data = self.state.data
        versions = [data.champion.version, *([data.candidate.version] if data.candidate else [])]
        wanted = {line_of(v) for v in versions} | set(self.spec_lines.values())
        wanted |= {self.previous, self.fresh, data.winner or BASELINE}
        self.roster.keep(wanted - {BASELINE}, data.spec)

    def _ensure_spec_lines(self, outcome: Outcome) -> None:
        """A line for every model of the spec: from the first outcome, or, for one added later, from a bounded past."""
        if self._spec_checked == self.state.data.sequence:
            return
        self._spec_checked = self.state.data.sequence
        models = {_key(m): m for m in self.state.data.spec.models}
        if models.keys() == self.spec_lines.keys():
            return
        assert self.first_offset is not None, "set by learn"
        start = max(self.first_offset, outcome.offset - LATE_MODEL_OFFSETS)
        for key, model in models.items():
            if key not in self.spec_lines:
                name = self._free_name(slug(model), start)
                cause = Cause("initial", f"initial/{name}", "a model of the loop's spec")
                self.voice.events.append(self._start(cause, outcome.id, start, model, outcome.offset - 1))
        self.spec_lines = {key: name for key, name in self.spec_lines.items() if key in models}
        self._keep()

    def _free_name(self, base: str, start: int) -> str:
        name, n = f"{base}-{start}", 2
        while name in self.roster.definitions:
            name, n = f"{base}.{n}-{start}", n + 1
        return name

    def gaps(self) -> list[Gap]:
        """What lines need from history before they can go on."""
        return self.roster.gaps()

    def fill(self, gap: Gap, outcomes: Iterable[Outcome]) -> None:
        """History for a line, without what lies on the log a second time."""
        self.roster.fill(gap, [self.firsts.recalled(o) for o in outcomes if o.offset not in self.repeats.offsets])

    # runs

    def on_drift(self, event: DriftDetected) -> RunRequested | None:
        """The run for an alert, the same for the same one; None while it waits for the cooldown. See `behind` first.

        A false alarm must not cost the answer to a real one, so an alert in the cooldown waits for its end; of
        several that wait, the last one knows the newest world.
        """
        asked, retrain = self._asked(_drift_key(event)), self.state.data.spec.retrain
        if asked or not retrain.on_drift or self.triggers.cooling(event.data.outcomes, retrain.cooldown):
            self.remind(event)
            return asked
        return self._start_drift(event)

    def remind(self, event: DriftDetected) -> None:
        """An alert that was heard before: unless it has its run, it waits; one that has it answers all before it."""
        asked, waiting = self._asked(_drift_key(event)), self.waiting
        if waiting is None or waiting.data.offset <= event.data.offset:
            self.waiting = None if asked or not self.state.data.spec.retrain.on_drift else event

    def _start_drift(self, event: DriftDetected) -> RunRequested:
        data = event.data
        said = f"drift at offset {data.offset}, changed at {data.change_point}"
        return self._start(
            Cause("drift", _drift_key(event), said), event.id, data.change_point, trace=event.traceparent
        )

    def answer_waiting(self) -> None:
        """The run of the alert that waits, once the cooldown is over."""
        retrain = self.state.data.spec.retrain
        if self.known or not self.waiting or not retrain.on_drift:
            return
        if not self.triggers.cooling(self.outcomes, retrain.cooldown):
            self.voice.events.append(self._start_drift(self.waiting))

    def request(self, key: str, reason: str) -> RunRequested | None:
        """The run a person asks for; None before the first outcome."""
        cause = Cause("manual", f"manual/{key}", reason)
        if (asked := self._asked(cause.key)) or not self.outcomes:
            return asked
        return self._start(cause, None, self._from(cause))

    def behind(self, offset: int) -> bool:
        """Whether the log up to `offset` is not learned yet, or is being learned again."""
        return self.position < offset or bool(self.known)

    def adopt(self, known: Iterable[RunRequested], finished: Iterable[str] = ()) -> None:
        """Runs that are on the log already: they start again where they did, and are not asked for twice.

        `finished` are the ids of those whose end is on the log too.
        """
        self.finished |= frozenset(finished)
        waiting = {r.data.key: r for r in (*self.known, *known) if r.data.key not in self.requests}
        self.known = sorted(waiting.values(), key=lambda r: r.data.requested_offset)
        self._adopt(self.position + 1)

    def _adopt(self, before: int) -> None:
        while self.known and self.known[0].data.requested_offset < before:
            self._begin(self.known.pop(0))

    def _asked(self, key: str) -> RunRequested | None:
        return self.requests.get(key) or next((r for r in self.known if r.data.key == key), None)

    def _from(self, cause: Cause) -> int:
        """Feedback says that right has changed from now on; other causes start with what was observed lately."""
        if cause.trigger == "feedback" or not self.recent_offsets:
            return self.position + 1
        return self.recent_offsets[0]

    def _start(
        self,
        cause: Cause,
        caused_by: str | None,
        start: int,
        model: ModelSpec | None = None,
        seen: int | None = None,
        trace: str | None = None,
    ) -> RunRequested:
        model = model or self._champion_model()
        if cause.trigger != "initial" and f"{slug(model)}-{start}" in self.roster.definitions:
            start = self.position + 1  # the same model from the same offset is no challenger: it is the same line
        line = Line(
            line=self._free_name(slug(model), start),
            model=model,
            run=run_id(self.loop, cause.key, self.state.data.life),
            start_offset=start,
            requested_offset=self.position if seen is None else seen,
        )
        request = self.voice.requested(self.state.revision, cause, line, caused_by, trace)
        self._begin(request)
        return request

    def _begin(self, request: RunRequested) -> None:
        data = request.data
        self.requests[data.key] = request
        if data.trigger == "drift":
            self.waiting = None  # answered; in a snapshot from before, it waits
        if data.trigger == "initial":
            self.spec_lines[_key(data.model)] = data.line
        else:
            self.triggers.started(self.outcomes)
            self.fresh = data.line
        self.roster.definitions[data.line] = request
        self._forget_runs()
        if data.run not in self.finished:
            self.roster.bring_up(request, self.state.data.spec)
        self._keep()

    def _forget_runs(self) -> None:
        """The oldest runs beyond `RUNS`, but those whose line learns, or has a version that can be gone back to."""
        needed = {line_of(version) for version in self.state.data.kept} | self.roster.lines.keys()
        for key in [key for key, r in self.requests.items() if r.data.line not in needed][: len(self.requests) - RUNS]:
            self.roster.definitions.pop(self.requests.pop(key).data.line, None)

    def _champion_model(self) -> ModelSpec:
        known = self.roster.definitions.get(line_of(self.state.data.champion.version))
        return known.data.model if known else self.state.data.spec.models[0]


def _drift_key(event: DriftDetected) -> str:
    return f"drift/{event.id}"


def _key(model: ModelSpec) -> str:
    return model.model_dump_json()
