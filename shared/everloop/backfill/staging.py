"""Rows of a source on disk, brought into the order of their times: memory is bounded however many there are."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid5

from everloop.backfill.columns import HistoryRow
from everloop.own_folder import own_folder
from everloop.replay.rows import Errors, Row
from everloop_schemas.envelope import NAMESPACE

COMMIT_ROWS = 10_000
_TABLES = """
CREATE TABLE history (seq INTEGER PRIMARY KEY, time_us INTEGER, id TEXT, event TEXT);
CREATE TABLE contents (digest BLOB PRIMARY KEY, times INTEGER) WITHOUT ROWID;
CREATE TABLE ids (id TEXT PRIMARY KEY, digest BLOB, seq INTEGER, place INTEGER) WITHOUT ROWID;
CREATE TABLE known (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""


@dataclass
class Refused:
    """What was refused, by field: how many rows, and the first of them with its reason."""

    rows: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, number: int, errors: Errors) -> None:
        """Count the errors of a row."""
        for name, error in errors:
            self.rows[name] += 1
            self.first.setdefault(name, (number, error))


@dataclass
class Staging:
    """A database in a temporary folder, gone in the end. Ids and keys follow from the loop and the content of rows."""

    loop: str
    refused: Refused = field(default_factory=Refused)
    read: int = 0
    staged: int = 0
    labels: int = 0
    repeated: int = 0
    already: int = 0
    times_us: tuple[int, int] | None = None
    _folder: Any = field(default=None, init=False)
    _db: Any = field(default=None, init=False)

    def __enter__(self) -> Self:
        self._folder = own_folder("backfill")
        self._db = sqlite3.connect(Path(self._folder.name) / "history.db", isolation_level=None)
        self._db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;")
        self._db.execute(f"PRAGMA temp_store_directory = '{self._folder.name}'")
        self._db.executescript(_TABLES)
        self._db.execute("BEGIN")
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()
        self._folder.cleanup()

    def add(self, number: int, row: HistoryRow | None, wrong: Errors, place: int = 0) -> None:
        """Take in row `number`, or why it is refused. Of two rows of an archive with one id the later `place` stays."""
        self.read += 1
        if wrong:
            self.refused.add(number, wrong)
        if row is not None:
            own = row.event.get("id")
            if own is None:
                self._insert(self._derived_id(row), row)
            else:
                self._add_named(number, own, row, place)
        if self.read % COMMIT_ROWS == 0:
            self._db.execute("COMMIT")
            self._db.execute("BEGIN")

    def skip_known(self, ids: Iterator[str]) -> None:
        """Leave out the rows of these ids, which the loop has with their labels."""
        self._db.executemany("INSERT OR IGNORE INTO known VALUES (?)", ((id_,) for id_ in ids))
        [self.already] = self._db.execute("SELECT COUNT(*) FROM history WHERE id IN (SELECT id FROM known)").fetchone()

    def rows(self) -> Iterator[Row]:
        """The rows in the order of their times, those of one time in the order of the source."""
        query = "SELECT seq, id, event FROM history WHERE id NOT IN (SELECT id FROM known) ORDER BY time_us, seq"
        for number, id_, text in self._db.execute(query):
            event, label = json.loads(text)
            key = str(uuid5(NAMESPACE, f"{self.loop}/backfill/label/{id_}"))
            yield Row(number, {**event, "id": id_}, key, label)

    def _derived_id(self, row: HistoryRow) -> str:
        """From the content; rows of the same content are numbered, and it does not matter which of them is which."""
        count = "INSERT INTO contents VALUES (?, 0) ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times"
        [[times]] = self._db.execute(count, (row.digest,)).fetchall()
        return str(uuid5(NAMESPACE, f"{self.loop}/backfill/{row.digest.hex()}/{times}"))

    def _add_named(self, number: int, own: str, row: HistoryRow, place: int) -> None:
        found = self._db.execute("SELECT digest, seq, place FROM ids WHERE id = ?", (own,)).fetchone()
        if found is None:
            seq = self._insert(own, row)
            self._db.execute("INSERT INTO ids VALUES (?, ?, ?, ?)", (own, row.digest, seq, place))
        elif found[0] == row.digest or place < found[2]:
            self.repeated += 1
        elif place > found[2]:  # a correction
            self.repeated += 1
            self._db.execute("UPDATE history SET event = ? WHERE seq = ?", (_text(row), found[1]))
            self._db.execute("UPDATE ids SET digest = ?, place = ? WHERE id = ?", (row.digest, place, own))
        else:
            self.refused.add(number, [("id", f"{own[:80]!r} is the id of an earlier row too; give each its own")])

    def _insert(self, id_: str, row: HistoryRow) -> int:
        self.staged += 1
        self.labels += row.label is not None
        first, last = self.times_us or (row.time_us, row.time_us)
        self.times_us = min(first, row.time_us), max(last, row.time_us)
        insert = "INSERT INTO history (time_us, id, event) VALUES (?, ?, ?)"
        return int(self._db.execute(insert, (row.time_us, id_, _text(row))).lastrowid)


def _text(row: HistoryRow) -> str:
    return json.dumps([row.event, row.label], ensure_ascii=False)
