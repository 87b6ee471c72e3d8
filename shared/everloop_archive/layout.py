"""Where everything lies below the archive's URL: tables, data files, commits, positions. The contract of all readers.

outcomes/loop=churn/day=2026-11-27/0-1200-1999-4f1c09ab.parquet    <partition>-<first offset>-<last offset>-<attempt>
outcomes/loop=churn/_delta_log/00000000000000000007.json           commit 7 of the table
_everloop/outcomes/0.position.json                                 where partition 0 of the topic goes on
"""

from __future__ import annotations

import re
from datetime import date
from typing import Literal, NamedTuple, Self

from everloop_schemas.envelope import Topic
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.serving import PredictionMade

Kind = Literal["outcomes", "predictions"]
KINDS: dict[Kind, Topic] = {"outcomes": OutcomeObserved.topic, "predictions": PredictionMade.topic}
"""Each kind of table, with the topic that it archives."""
LOG = "_delta_log"
LAST_CHECKPOINT = f"{LOG}/_last_checkpoint"
DAY = "day"
"""The column by which tables are partitioned: the UTC day of the column `time`."""
_FILE = re.compile(r"day=(\d{4}-\d\d-\d\d)/(\d+)-(\d+)-(\d+)-([0-9a-f]{8})\.parquet")


class TableName(NamedTuple):
    """One table: what it holds of which loop."""

    kind: Kind
    loop: str

    @property
    def folder(self) -> str:
        """Its folder below the archive's URL."""
        return f"{self.kind}/loop={self.loop}"

    @property
    def topic(self) -> Topic:
        """The topic whose records it holds."""
        return KINDS[self.kind]


class FileName(NamedTuple):
    """A data file's name in its table: the day, the partition, and the first and last offset of its records.

    Offsets between these two that the file lacks are of other loops or other days. `attempt` makes the names of two
    attempts to write the same records differ, so that no file is ever written twice.
    """

    day: date
    partition: int
    first: int
    last: int
    attempt: str

    @property
    def path(self) -> str:
        """The path in the table's folder."""
        return f"{DAY}={self.day}/{self.partition}-{self.first}-{self.last}-{self.attempt}.parquet"

    @classmethod
    def parse(cls, path: str) -> Self:
        """The name in a path in the table's folder; raises ValueError where it is none."""
        found = _FILE.fullmatch(path)
        if found is None:
            raise ValueError(f"{path[:200]!r} is no data file of the archive")
        day, partition, first, last, attempt = found.groups()
        return cls(date.fromisoformat(day), int(partition), int(first), int(last), attempt)


def commit_path(version: int) -> str:
    """The path of a commit in the table's folder."""
    return f"{LOG}/{version:020d}.json"


def checkpoint_path(version: int) -> str:
    """The path of the checkpoint after a commit in the table's folder."""
    return f"{LOG}/{version:020d}.checkpoint.parquet"


def position_id(topic: Topic, partition: int) -> str:
    """The name under which a table's log keeps its position in a partition: the offset after the last one archived."""
    return f"everloop/{topic.name}/{partition}"


def owner_id(topic: Topic, partition: int) -> str:
    """The name under which a table's log counts the times that unfinished files of a partition were removed."""
    return f"everloop/{topic.name}/{partition}/owner"


def position_path(kind: Kind, partition: int) -> str:
    """The file that says where the archive of a partition goes on, over all loops."""
    return f"_everloop/{kind}/{partition}.position.json"


def unfinished_folder(kind: Kind, partition: int) -> str:
    """The folder of the lists of files that are being written, a list for each attempt."""
    return f"_everloop/{kind}/{partition}.unfinished"
