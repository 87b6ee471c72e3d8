"""What can go wrong in the registry, each with its fate."""

from __future__ import annotations

from everloop_shared.errors import Disposition, EverloopError, NotFound, NotYet, Rejected, Unavailable


class SpecRejected(Rejected):
    """A loop file does not fit; `errors` names each field and the fix."""

    title = "Loop file does not fit"


class LoopNotFound(NotFound):
    """Nobody has applied this loop, or not yet at the moment asked for."""

    title = "Loop not found"


class LoopUnknown(NotYet):
    """An event of a loop that nobody has applied: it waits a while."""

    title = "Loop not known yet"


class VersionNotFound(NotFound):
    """No such version is registered."""

    title = "Version not found"


class Conflict(Rejected):
    """The command makes no sense in the state the loop is in."""

    http_status = 409
    title = "Conflict"


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
