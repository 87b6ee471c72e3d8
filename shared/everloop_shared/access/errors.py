"""Why somebody is not let in; no error repeats what was sent as a token."""

from __future__ import annotations

from everloop_shared.errors import ErrorKind, InputRejected


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
    """The caller is known, and has no role for this."""

    kind = ErrorKind.PERMISSION_DENIED
    title = "Not permitted"
