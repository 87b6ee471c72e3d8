"""Failures that only training knows."""

from __future__ import annotations

from everloop_shared.errors import ErrorKind, FieldError, InputRejected, NotFound, Overloaded, ServiceError, Unavailable


class TooManyRuns(Overloaded):
    """More runs or searches of a loop were requested within an hour than its quota."""

    title = "Too many runs or searches"
    retry_after = 600.0


class OutcomesNotLearned(Unavailable):
    """The outcomes that a request for a run is about are not learned yet."""

    title = "Outcomes not learned yet"


class WorkerUnavailable(Unavailable):
    """The worker is starting, or stopping."""

    title = "The training worker is restarting"


class WorkerBusy(Overloaded):
    """A worker has as many outcomes in flight as it may; the partitions of the other workers go on meanwhile."""

    title = "The training worker is busy"


class NothingToSearch(InputRejected):
    """A search was requested of a model for which the loop's file names no parameters; `errors` names the fix."""

    title = "Nothing to search"


class TooFewOutcomes(InputRejected):
    """A loop has too few outcomes for what was requested."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "Too few outcomes"


class DataSetRejected(InputRejected):
    """The range that was asked for is none, or is too large; `errors` names the field and the fix."""

    title = "Not a data set"


class DataSetGone(NotFound):
    """The log does not hold the records any more that a data set consists of, or that decide which belong to it."""

    title = "Data set no longer on the log"


class NoOutcomes(NotFound):
    """There is no learnable outcome in the range that was asked for."""

    title = "No learnable outcomes"


class TooManyReaders(Overloaded):
    """As many data sets are being read as the limit allows."""

    title = "Too many data sets are being read"
    retry_after = 5.0


class DataSetTooSlow(ServiceError):
    """Reading and sending a data set took longer than the limit."""

    kind = ErrorKind.DEADLINE_EXCEEDED
    title = "Data set not read in time"


class DataSetNotStored(ServiceError):
    """The disk on which a data set is gathered before it is sent is full, or cannot be written."""

    kind = ErrorKind.STORAGE_FULL
    title = "Data set not stored"


class RunNotFound(NotFound):
    """A trainer names a run that asks no trainer for a model."""

    title = "Run not found"


class RunNotKnownHere(Unavailable):
    """The worker of this instance does not know a run yet, or not any more."""

    title = "Run not known yet"


class LeaseEnded(InputRejected):
    """A trainer renews a lease that has ended, or that is another's."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "Lease ended"


class RunEndedOtherwise(InputRejected):
    """A run has ended already, otherwise than the trainer says."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "Run ended"


class RunSuperseded(InputRejected):
    """A newer run of the same line has taken a run's place; `errors` names it."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "Run superseded"

    def __init__(self, run: str, newer: str) -> None:
        error = f"is superseded by {newer}, which asks for a model that is trained on later outcomes; take that run"
        super().__init__(f"run {run} {error}", [FieldError("run", error)])
