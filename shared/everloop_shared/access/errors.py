"""Why somebody is not let in; no error repeats what was sent as a token."""

from __future__ import annotations

from everloop_shared.errors import Disposition, ErrorKind, FieldError, InputRejected, ServiceError


class NotAuthenticated(InputRejected):
    """The request has no token, or none that is valid; `challenge` is what WWW-Authenticate says (RFC 6750)."""

    kind = ErrorKind.UNAUTHENTICATED
    title = "Not authenticated"
    challenge = "Bearer"


class TokenNotValid(NotAuthenticated):
    """The token is unknown, expired, revoked, or not for this installation."""

    title = "Token not valid"
    challenge = 'Bearer error="invalid_token"'


class NotPermitted(InputRejected):
    """The caller is known, and has no role for this; `loop` is the one that it is about, where that is known."""

    kind = ErrorKind.PERMISSION_DENIED
    title = "Not permitted"
    loop: str | None = None


class CallerLimited(ServiceError):
    """The caller has reached a limit of its own; others are served. `errors` has the name of the limit."""

    kind = ErrorKind.RESOURCE_EXHAUSTED
    disposition = Disposition.RETRY
    title = "Limit of this caller"

    def __init__(self, caller: str, limit: str, most: str, wait_s: float) -> None:
        super().__init__(
            f"{caller} has reached its limit of {most}; retry later", [FieldError(limit, f"at most {most}")]
        )
        self.retry_after = wait_s
