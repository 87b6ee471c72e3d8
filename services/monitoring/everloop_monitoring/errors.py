"""What can go wrong in monitoring's commands."""

from __future__ import annotations

from everloop_shared.access.errors import NotAuthenticated
from everloop_shared.errors import ErrorKind, InputRejected, NotFound, ServiceError


class SilenceNotFound(NotFound):
    """No such silence, or it has ended."""

    title = "Silence not found"


class TooManySilences(InputRejected):
    """A loop has as many silences as the limit allows."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "Too many silences"


class LetterNotFound(NotFound):
    """The dead letter is not in the list, or its topic does not keep it any more."""

    title = "Dead letter not found"


class LetterNotSendable(ServiceError):
    """A record of this topic cannot be sent again by anybody but the topic's owner."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "Dead letter cannot be sent again"


class IngestNotKnown(ServiceError):
    """A record goes again by ingest, and monitoring was not given its address; the command line knows it."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "Ingest's address is not known"

    def __init__(self, letter: str) -> None:
        super().__init__(
            "the record goes by ingest, whose address monitoring does not know: set EVERLOOP_INGEST_URL for it, or use "
            f"everloop letters send {letter[:80]}"
        )


class LetterRejected(InputRejected):
    """What should be sent is no event of the letter's topic, or another event than the one of the letter."""

    title = "Not an event of the topic"


class SignInFailed(NotAuthenticated):
    """Somebody came back from the provider, or with a code, and is not let in."""

    title = "Not signed in"


class NoProvider(ServiceError):
    """The installation has no provider at which browsers sign in."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "No provider"


class AccessIsOff(ServiceError):
    """Nobody has to sign in: EVERLOOP_AUTH is off."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "Access control is off"


class RegistryNotKnown(ServiceError):
    """A verdict goes to the registry, and monitoring was not given its address; the command line knows it."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "The registry's address is not known"

    def __init__(self, verb: str, loop: str) -> None:
        super().__init__(
            "monitoring does not know the registry's address: set EVERLOOP_REGISTRY_URL for it, or use "
            f"everloop {verb} {loop[:80]} --reason TEXT"
        )


class VerdictRefused(ServiceError):
    """The registry does not do what somebody says about a candidate, and says why."""

    kind = ErrorKind.FAILED_PRECONDITION
    title = "Not decided"
