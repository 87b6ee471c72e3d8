"""Which reference counts: one for each champion's line, and a new one after each drift that was reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from everloop_learning.version import line_of
from everloop_monitoring.domain.data_drift.columns import Column
from everloop_monitoring.domain.data_drift.comparison import Change, Comparison, Mark
from everloop_schemas.envelope import Scalar

CHANGED_AFTER = 20
"""A champion of another line counts as the new one after so many records in a row: partitions overtake each other."""
MakeColumns = Callable[[], list[Column]]


@dataclass(slots=True)
class Track:
    """Compares one stream of records with the reference of the champion's line.

    `version` is the champion's latest, and `others` counts the latest records in a row that another line's champion
    served. `slices` are the features by which records are divided. `current` is compared; `coming` gathers the next
    reference, and replaces it once that is complete.
    """

    version: str = ""
    others: int = 0
    slices: tuple[str, ...] = ()
    current: Comparison | None = None
    coming: Comparison | None = None

    def add(self, values: Mapping[str, Scalar | None], mark: Mark, make_columns: MakeColumns) -> list[Change]:
        """Add a record; what has changed, once for each drift, the largest change first."""
        changes = list[Change]()
        if self.current is None and self.coming is None:
            self._gather(mark, make_columns)
        if self.current and self.current.add(values, mark):
            changes = self.current.find_changes()
        if self.coming and self.coming.add(values, mark) and self.coming.is_complete:
            self.current, self.coming = self.coming, None
        if changes and self.current:
            self.current.reported = True
            self._gather(mark, make_columns)
        return changes

    def follow(self, version: str, mark: Mark, make_columns: MakeColumns) -> None:
        """Note the champion that served the next record; one of another line has a new reference."""
        if not self.version or line_of(version) == line_of(self.version):
            self.version, self.others = version, 0
            return
        self.others += 1
        if self.others >= CHANGED_AFTER:
            self.version, self.others = version, 0
            self._gather(mark, make_columns)

    def _gather(self, mark: Mark, make_columns: MakeColumns) -> None:
        self.coming = Comparison.of(make_columns(), self.slices, self.version, mark)
