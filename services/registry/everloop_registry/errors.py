"""What can go wrong in the registry, each with its fate."""

from __future__ import annotations

from everloop_shared.errors import Disposition, EverloopError, NotFound, Overloaded, Rejected, Unavailable


class SpecRejected(Rejected):
    """A loop file does not fit; `errors` names each field and the fix."""

    title = "Loop file does not fit"


class VersionNotFound(NotFound):
    """No such version is registered."""

    title = "Version not found"


class Conflict(Rejected):
    """The command makes no sense in the state the loop is in."""

    http_status = 409
    title = "Conflict"


class Collected(Conflict):
    """The version is known and its artifact is not kept any more."""

    title = "Artifact collected"


class LoopsFull(Conflict):
    """There are as many loops as the limit allows."""

    title = "Too many loops"


class ChangesTooOften(Overloaded):
    """More decisions about one loop within an hour than a person needs."""

    title = "Too many changes"
    retry_after = 600.0


class Starting(Unavailable):
    """The database is being brought up to the topic; before that nothing is answered or decided."""

    title = "Starting"


class DecidedNotTold(Unavailable):
    """The decision is stored but the broker is away: it will be told in order, and saying it again is harmless."""

    title = "Stored, not told yet"


class Broken(EverloopError):
    """The decisions of a loop do not follow from one another: nothing more is decided before a person has looked."""

    disposition = Disposition.CRASH
    title = "Decisions broken"
