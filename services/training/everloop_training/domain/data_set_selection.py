"""Which part of a loop's log a request for a data set means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from everloop_shared.errors import FieldError
from everloop_training.errors import DataSetRejected


@dataclass(frozen=True)
class Selection:
    """Offsets (both included), the last outcomes, or a range of time (`until` excluded); all outcomes where empty.

    `revision` is that in the name of a data set; without it the data set is of the loop's present one.
    """

    start: int | None = None
    end: int | None = None
    last: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    revision: int | None = None

    def check(self) -> None:
        """Raise DataSetRejected where it means two things, or none."""
        errors = []
        by_offset, by_time = (self.start, self.end) != (None, None), (self.since, self.until) != (None, None)
        if self.last is not None and (by_offset or by_time):
            errors.append(FieldError("last", "is for itself; leave out start, end, from and to, or last"))
        if by_offset and by_time:
            errors.append(FieldError("from", "give offsets (start, end) or times (from, to), not both"))
        if self.start is not None and self.end is not None and self.start > self.end:
            errors.append(FieldError("start", f"must not be after end, which is {self.end}"))
        if self.since is not None and self.until is not None and self.since >= self.until:
            errors.append(FieldError("from", "must be before to"))
        if self.revision is not None and (self.start is None or self.end is None):
            errors.append(FieldError("revision", "is for the data set of a name, which has start and end too"))
        if errors:
            raise DataSetRejected("the request names no data set", errors)
