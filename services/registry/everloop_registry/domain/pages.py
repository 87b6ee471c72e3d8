"""Page tokens of MLflow's searches: where the next page begins."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from everloop_registry.errors import FilterRejected

T = TypeVar("T")
MAX_PAGE = 1_000
"""The most that one answer holds; a client that asks for more gets a token for the rest."""
MAX_OFFSET = 10_000_000
_PREFIX = b"from:"


@dataclass(frozen=True)
class Page(Generic[T]):
    """What was found, and the token of the next page where there is more."""

    found: Sequence[T]
    token: str | None = None


@dataclass(frozen=True)
class Paging:
    """Which page is asked for."""

    start: int
    size: int

    @classmethod
    def of(cls, token: str | None, size: int, most: int = MAX_PAGE) -> Paging:
        """The page that a token stands for; raises FilterRejected for one that no answer gave."""
        return cls(_read(token) if token else 0, min(size, most))

    @property
    def limit(self) -> int:
        """One more than the page holds, which tells whether there is a next one."""
        return self.size + 1

    def page(self, found: Sequence[T]) -> Page[T]:
        """The page of what was found from its start on, up to its limit."""
        more = len(found) > self.size
        token = base64.urlsafe_b64encode(_PREFIX + b"%d" % (self.start + self.size)).decode() if more else None
        return Page(found[: self.size], token)


def _read(token: str) -> int:
    try:
        text = base64.urlsafe_b64decode(token.encode("ascii"))
    except (ValueError, binascii.Error):
        text = b""
    digits = text.removeprefix(_PREFIX)
    if not text.startswith(_PREFIX) or not digits.isdigit() or len(digits) > 9 or int(digits) > MAX_OFFSET:
        raise FilterRejected("page_token: is none that an answer gave; leave it out for the first page")
    return int(digits)
