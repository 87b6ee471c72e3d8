"""The errors of the client, each with what the service answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from everloop.results import Accepted, RejectedEntry


class EverloopError(Exception):
    """The base class of all errors that the client raises.

    `delivered` are the entries of a list that were accepted before the error; None where no list was being sent.

    >>> from everloop import Everloop, EverloopError
    >>> with Everloop() as everloop:
    ...     try:
    ...         everloop.publish("market", {"price": "high"})
    ...     except EverloopError as error:
    ...         print(type(error).__name__)
    EverloopHTTPError
    """

    delivered: Accepted | None = None

    def __reduce__(self) -> tuple[Callable[..., EverloopError], tuple[Any, ...]]:
        # By default an exception is made anew by calling its class with `args`, which is only its sentence. A process
        # pool whose worker raised such an error would break.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[EverloopError], args: tuple[Any, ...], state: Mapping[str, Any]) -> EverloopError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class LoopNameInvalid(EverloopError):
    """No loop can have this name.

    >>> from everloop import Everloop, LoopNameInvalid
    >>> with Everloop() as everloop:
    ...     try:
    ...         everloop.predict("Big Loop", {})
    ...     except LoopNameInvalid as error:
    ...         print(str(error).split(":")[0])
    loop
    """


class LoopFileInvalid(EverloopError):
    """What was applied is no loop file: it cannot be read, is not YAML, or names no loop.

    >>> from everloop import Everloop, LoopFileInvalid
    >>> with Everloop() as everloop:
    ...     try:
    ...         everloop.apply("task: binary")
    ...     except LoopFileInvalid as error:
    ...         print(str(error).split(";")[0])
    loop: is missing in the loop file
    """


class LoopNotUsedYet(EverloopError):
    """A loop's revision is applied, but `services` on the data path do not use it yet.

    >>> from everloop import Everloop, LoopNotUsedYet
    >>> with Everloop(serving="http://127.0.0.1:1") as everloop:
    ...     try:
    ...         everloop.apply("loop: market\\ntask: binary\\nschema: {price: {type: number}}", within=0)
    ...     except LoopNotUsedYet as error:
    ...         print(error.loop, error.revision, error.services)
    market 3 ('serving',)
    """

    def __init__(self, loop: str, revision: int, services: Sequence[str], within: float) -> None:
        super().__init__(
            f"revision {revision} of {loop} is applied, but {' and '.join(services)} did not use it within "
            f"{within:g} s; read the logs, and apply it again"
        )
        self.loop = loop
        self.revision = revision
        self.services = tuple(services)


class EverloopHTTPError(EverloopError):
    """A service refused the request: `status`, and `title`, `detail`, `errors`, `rejected` and `code` of its problem
    details.

    `errors` are (field, error) pairs; `rejected` are the entries of a list of which none was accepted.

    >>> from everloop import Everloop, EverloopHTTPError
    >>> with Everloop() as everloop:
    ...     try:
    ...         everloop.publish("market", {"price": "high"})
    ...     except EverloopHTTPError as error:
    ...         print(error.status, error.errors)
    422 (('data.price', 'must be a finite number, is text'),)
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        rejected: Sequence[RejectedEntry] = (),
        code: str | None = None,
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.errors: tuple[tuple[str, str], ...] = tuple(errors)
        self.rejected: tuple[RejectedEntry, ...] = tuple(rejected)
        self.code = code


class EverloopUnreachable(EverloopError):
    """No service answered at this address, for as long as the client retried.

    >>> from everloop import Everloop, EverloopUnreachable
    >>> with Everloop(ingest="http://127.0.0.1:1", retry_for=0) as everloop:
    ...     try:
    ...         everloop.publish("market", {"price": 3.0})
    ...     except EverloopUnreachable as error:
    ...         print(error.service, error.url)
    ingest http://127.0.0.1:1
    """

    def __init__(self, service: str, url: str, reason: str) -> None:
        super().__init__(f"{service} does not answer at {url}: {reason}")
        self.service = service
        self.url = url
        self.reason = reason
