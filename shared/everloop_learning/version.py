"""The name of a version, `<line>@<offset>`: parsed and formatted here and nowhere else."""

from __future__ import annotations

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

    @classmethod
    def parse(cls, name: str) -> Version:
        """The version of this name. A name whose offset is not a whole number has a line and no offset."""
        line, _, offset = name.rpartition("@")
        if not line:
            return cls(name)
        is_number = offset.isdecimal() and offset.isascii()
        return cls(line, int(offset) if is_number else NO_OFFSET)

    def __str__(self) -> str:
        return self.line if self.offset == NO_OFFSET else f"{self.line}@{self.offset}"


def line_of(version: str) -> str:
    """The line of the version of this name."""
    return Version.parse(version).line
