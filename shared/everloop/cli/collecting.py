"""A collector of a loop's facts, for the commands that show or write them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial

from everloop.cli.ask import RETRY_FOR_S, ask_by
from everloop.client import Everloop
from everloop.reports.facts import LETTERS, PARTS, FactCollector

PART_RETRY_FOR_S = 0.5
"""A part is left out when its service does not answer for so long."""


@contextmanager
def collecting(
    data: str | None, loop: str, parts: Collection[str] = (*PARTS, LETTERS), retry_for: float = RETRY_FOR_S
) -> Iterator[FactCollector]:
    """The collector for a loop of an installation; its connections are open within the block."""
    with Everloop(data, retry_for=retry_for) as patient, Everloop(data, retry_for=PART_RETRY_FOR_S) as client:
        yield FactCollector(partial(ask_by, patient), partial(ask_by, client), loop, parts)
