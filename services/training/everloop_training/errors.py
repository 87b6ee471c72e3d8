"""Failures that only training knows."""

from __future__ import annotations

from everloop_shared.errors import Overloaded, Unavailable


class TooManyRuns(Overloaded):
    """More runs were asked for within an hour than the quota of a loop."""

    title = "Too many runs"
    retry_after = 600.0


class Behind(Unavailable):
    """An alert came before the outcomes it speaks of were learned."""

    title = "Not learned yet"


class LearnersAway(Unavailable):
    """The worker is starting, or stopping."""

    title = "Learners are restarting"
