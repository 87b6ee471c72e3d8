"""What the clients of a standard protocol expect of the endpoints below a path, where it is not what others do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from starlette.types import Scope

BROWSER = b"Mozilla/"
"""How the user agent of every browser begins."""
ERROR_MEMBER = "everloop.error_member"
"""Where the scope of a request has the member in which its client reads the text of an error."""


class Conventions(NamedTuple):
    """Below `prefix`, errors are plain JSON with their text in `error_member`, beside the members of problem details.

    `content_types` are read there beside JSON and YAML; None is a missing one.
    """

    prefix: str
    error_member: str
    content_types: frozenset[bytes | None] = frozenset()

    def reads(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a body of this content type is read here, whatever a web page can do.

        One that is missing is refused to browsers, whose name no page can change: those from before 2020 would send it
        to other sites without a word of where it comes from.
        """
        content_type = headers.get(b"content-type")
        if content_type is None and headers.get(b"user-agent", b"").startswith(BROWSER):
            return False
        return content_type in self.content_types

    def covers(self, path: str) -> bool:
        """Whether an endpoint is one of these."""
        return path.startswith(self.prefix) and path[len(self.prefix) :][:1] in ("", "/")

    def apply(self, scope: Scope) -> bool:
        """Whether the request is to such an endpoint; its scope then says how errors are written."""
        covered = self.covers(scope["path"])
        if covered:
            scope[ERROR_MEMBER] = self.error_member
        return covered
