"""What can go wrong for a user of the client, each with what the server said."""

from __future__ import annotations

from collections.abc import Sequence

from everloop.results import Accepted, Rejected


class EverloopError(Exception):
    """Anything that the client raises.

    `delivered` is what had been taken of a list before it ended so; None where nothing was underway.
    """

    delivered: Accepted | None = None


class LoopNameWrong(EverloopError):
    """No loop can be called so."""


class EverloopHTTPError(EverloopError):
    """A server's refusal: `status`, and from its problem details `title`, `detail`, `errors` and `rejected`.

    `errors` are (field, error) pairs; `rejected` are the entries of a batch of which none was good.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        rejected: Sequence[Rejected] = (),
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.rejected = tuple(rejected)


class EverloopUnreachable(EverloopError):
    """Nobody answered there, for as long as was retried."""

    def __init__(self, service: str, url: str, reason: str) -> None:
        super().__init__(f"{service} does not answer at {url}: {reason}")
        self.service = service
        self.url = url
        self.reason = reason
