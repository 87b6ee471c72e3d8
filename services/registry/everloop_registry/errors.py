"""What can go wrong in the registry, each with its HTTP status and with what becomes of the record."""

from __future__ import annotations

from everloop_shared.errors import (
    Disposition,
    ErrorKind,
    InputRejected,
    NotFound,
    Overloaded,
    ServiceError,
    Unavailable,
)


class SpecRejected(InputRejected):
    """A loop file is not valid; `errors` names each field and the fix."""

    title = "Loop file does not fit"


class VersionNotFound(NotFound):
    """No such version is registered."""

    title = "Version not found"


class LineageRejected(InputRejected):
    """A question about lineage names nothing, or several things at once."""


class ErasureRefused(InputRejected):
    """The entity or a version of an erasure cannot be one."""

    title = "Erasure does not fit"


class Conflict(InputRejected):
    """The command makes no sense in the state the loop is in."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "Conflict"


class InvalidPrecondition(InputRejected):
    """`If-Match` or `If-None-Match` is not a list of entity tags."""

    kind = ErrorKind.MALFORMED
    title = "Bad request"


class PreconditionFailed(InputRejected):
    """The loop is not at the revision that the client required: somebody else has changed it meanwhile."""

    kind = ErrorKind.PRECONDITION_FAILED
    title = "Precondition failed"


class ArtifactCollected(Conflict):
    """The version is known, but its artifact is no longer kept."""

    title = "Artifact collected"


class TooManyLoops(Conflict):
    """There are as many loops as the limit allows."""

    title = "Too many loops"


class TeamQuotaReached(Conflict):
    """The loop's team has as many loops, or features that cost as much, as its quota allows."""

    title = "Team quota reached"


class TooManyChanges(Overloaded):
    """As many decisions about one loop were made within an hour as the limit allows."""

    title = "Too many changes"
    retry_after = 600.0


class RecoveryInProgress(Unavailable):
    """The database is being brought up to the topic; until then nothing is answered or decided."""

    title = "Starting"


class DecisionsInconsistent(ServiceError):
    """The decisions of a loop do not follow from one another: nothing more is decided before a person has looked."""

    disposition = Disposition.CRASH
    title = "Decisions inconsistent"


class ExperimentNotFound(NotFound):
    """There is no experiment of this id or name."""

    title = "Experiment not found"


class ExperimentExists(InputRejected):
    """There is an experiment of this name."""

    kind = ErrorKind.ALREADY_EXISTS
    title = "Experiment exists"


class RunNotFound(NotFound):
    """There is no run of this id."""

    title = "Run not found"


class TooManyLogged(Conflict):
    """As much was logged as the limit allows."""

    title = "Too much logged"


class FilterRejected(InputRejected):
    """A filter, an order or a page token of a search is not understood."""

    title = "Filter does not fit"


class LoopNotApplied(NotFound):
    """MLflow's client names a registered model, and there is no loop of this name."""

    title = "Registered model not found"

    def __init__(self, loop: str) -> None:
        super().__init__(
            f"Registered Model with name={loop} not found: a registered model is a loop, and nobody has applied a loop "
            f"named {loop!r}; describe it in a loop file and run `everloop apply`"
        )


class ByHandRefused(InputRejected):
    """A client asks for what only the registry's own rules may change."""

    kind = ErrorKind.PERMISSION_DENIED
    title = "Not by hand"


class AliasNotFound(NotFound):
    """No version has this alias at the moment."""

    title = "Alias not found"


class ModelExists(InputRejected):
    """MLflow's client creates a registered model that is there: a loop."""

    kind = ErrorKind.ALREADY_EXISTS
    title = "Registered model exists"


class ArtifactPathRefused(InputRejected):
    """A path leads out of the files of runs, logged models and versions, or to nothing that can be written."""

    kind = ErrorKind.MALFORMED
    title = "Artifact path refused"


class ArtifactNotFound(NotFound):
    """There is no such file, run, logged model or version."""

    title = "Artifact not found"


class TooManyFiles(TooManyLogged):
    """A run or a logged model has as many files, or bytes, as it may have."""

    title = "Too many files"


class LoggedModelRefused(InputRejected):
    """A logged model may not challenge: the reason names the way in."""

    title = "Model refused"


class LoggedModelNotFound(NotFound):
    """There is no logged model of this id."""

    title = "Logged model not found"
