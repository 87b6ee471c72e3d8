"""Failures that only training knows."""

from __future__ import annotations

from everloop_shared.errors import Overloaded, Unavailable


class TooManyRuns(Overloaded):
    """More runs of a loop were requested within an hour than its quota."""

    title = "Too many runs"
    retry_after = 600.0


class OutcomesNotLearned(Unavailable):
    """The outcomes that a request for a run is about are not learned yet."""

    title = "Outcomes not learned yet"


class WorkerUnavailable(Unavailable):
    """The worker is starting, or stopping."""

    title = "The training worker is restarting"
