"""The name of a version, `<line>@<offset>`: parsed and formatted here and nowhere else."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

NO_OFFSET = -1


class Version(NamedTuple):
    """A line at an offset of the outcome log. The baseline is the line `0` without an offset (`NO_OFFSET`).

    >>> Version.parse("logistic-0@41")
    Version(line='logistic-0', offset=41)
    >>> str(Version("logistic-0", 41))
    'logistic-0@41'
    """

    line: str
    offset: int = NO_OFFSET

    @staticmethod
    def parse(name: str) -> Version:
        """The version of this name. A name whose offset is not a whole number has a line and no offset."""
        return _parse(name)

    def __str__(self) -> str:
        return self.line if self.offset == NO_OFFSET else f"{self.line}@{self.offset}"


@lru_cache(maxsize=1_000)
def _parse(name: str) -> Version:
    line, _, offset = name.rpartition("@")
    if not line:
        return Version(name)
    is_number = offset.isdecimal() and offset.isascii()
    return Version(line, int(offset) if is_number else NO_OFFSET)


def line_of(version: str) -> str:
    """The line of the version of this name."""
    return Version.parse(version).line
