"""Answers drift alerts with a run each; one that comes during the cooldown waits for its end."""

from __future__ import annotations

from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.training import RunRequested
from everloop_training.worker.learners.event_factory import EventFactory
from everloop_training.worker.learners.progress import LoopProgress
from everloop_training.worker.learners.run_starter import RunStarter
from everloop_training.worker.learners.triggers import DueRun, RunTriggers


class DriftRuns:
    """Starts the runs of one loop's drift alerts, the same run for the same alert.

    A false alarm must not cost the answer to a real one, so an alert in the cooldown waits; of several that wait, the
    last one counts, because its change point is the newest.
    """

    def __init__(self, progress: LoopProgress, runs: RunStarter, triggers: RunTriggers, events: EventFactory) -> None:
        self._progress, self._runs, self._triggers, self._events = progress, runs, triggers, events

    def on_drift(self, alert: DriftDetected) -> RunRequested | None:
        """The run of an alert, None while it waits. Only for alerts up to the loop's position."""
        if not self._is_answered(alert):
            return None
        retrain = self._progress.spec.retrain
        known = self._runs.find(_key(alert))
        is_early = self._triggers.is_cooling_down(alert.data.outcomes, retrain.cooldown) or not self._can_start(alert)
        if known or is_early:
            self.replay(alert)
            return known
        return self._start(alert)

    def replay(self, alert: DriftDetected) -> None:
        """An alert that was consumed before waits unless it has its run, which answers all alerts before it too."""
        if not self._is_answered(alert):
            return
        known, waiting = self._runs.find(_key(alert)), self._progress.waiting_alert
        if waiting is None or waiting.data.offset <= alert.data.offset:
            self._progress.waiting_alert = None if known else alert

    def start_waiting(self) -> None:
        """Start the run of the alert that waits, once the cooldown is over and the runs of the log are replayed."""
        progress, retrain = self._progress, self._progress.spec.retrain
        if self._runs.replayed or not progress.waiting_alert or not self._is_answered(progress.waiting_alert):
            return
        if self._triggers.is_cooling_down(progress.outcomes, retrain.cooldown):
            return
        if self._can_start(progress.waiting_alert) and (request := self._start(progress.waiting_alert)):
            self._events.pending.append(request)

    def _is_answered(self, alert: DriftDetected) -> bool:
        """Whether the spec asks for a run: on a drift of the served error, or on one that shows before labels."""
        retrain = self._progress.spec.retrain
        return retrain.on_drift if alert.data.is_served_error_drift else retrain.on_data_drift

    def _can_start(self, alert: DriftDetected) -> bool:
        """A fresh line can start at once; a line that is trained needs outcomes from after the change."""
        return self._runs.has_enough_since(alert.data.change_point)

    def _start(self, alert: DriftDetected) -> RunRequested | None:
        data = alert.data
        of = "" if data.is_served_error_drift else f"{data.kind} of {data.subject}, "
        reason = f"{of}drift at offset {data.offset}, changed at {data.change_point}"
        due = DueRun("drift", _key(alert), reason)
        return self._runs.start_fresh(due, alert.id, data.change_point, alert.traceparent)


def _key(alert: DriftDetected) -> str:
    return f"drift/{alert.id}"
