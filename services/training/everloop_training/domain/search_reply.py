"""What the learners answer to a request for a search."""

from __future__ import annotations

from typing import NamedTuple

from everloop_schemas.search import SearchRequested

MIN_OUTCOMES = 100
"""The outcomes of a loop before a search makes sense."""


class SearchReply(NamedTuple):
    """The search, or None where the loop has too few outcomes; `behind` where the log has yet to be learned."""

    search: SearchRequested | None
    behind: bool = False
